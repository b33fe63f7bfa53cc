//! What goes by its age, what goes by a wish, and what somebody may take along.

mod discretion;
mod erasure;
mod export;
mod fence;
mod found;
mod kept;
mod locks;
mod marker;
mod outside;
mod person;
mod places;
mod retention;
