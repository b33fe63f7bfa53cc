//! What it takes to walk through a site: which addresses belong to it, in which order they are asked
//! for, how politely, and what came back. [`crate::knowledge::ingest`] makes documents of it.
//!
//! - [`site`]: what is the same page, and what is a page of the same site
//! - [`frontier`]: what is still to be asked for, within the limits of pages and depth
//! - [`fetch`]: one request with its redirects, its limits, its pace
//! - [`robots`]: what the site allows
//! - [`sitemap`]: what the site says it has

pub(super) mod fetch;
pub(super) mod frontier;
pub(super) mod robots;
pub(super) mod site;
pub(super) mod sitemap;
