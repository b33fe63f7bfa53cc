//! What a visitor lives through, with real processes.

mod answer;
