//! One file per kind of job.

pub mod index_document;
