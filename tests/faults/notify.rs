//! Wake-ups that are lost.
