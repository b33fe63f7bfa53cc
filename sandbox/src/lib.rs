//! Everything outside of growth-chat that a developer's machine lacks: a private Postgres with
//! pgvector, and stand-ins for the services that growth-chat calls, which speak the real wire
//! protocols. `growth-chat dev` runs the system against them, and so do the tests; the product
//! itself only sees other addresses. Release images are built without this crate.

pub mod anthropic;
pub mod collector;
pub mod generated;
pub mod hubspot;
mod mishap;
pub mod openai;
pub mod outside;
pub mod people;
pub mod postgres;
pub mod process;
pub mod receiver;
pub mod s3;
mod serve;
pub mod site;
pub mod slack;
pub mod smtp;
pub mod switch;
pub mod watchdog;
mod words;
pub mod world;

#[cfg(test)]
mod tests {
    /// A client for stand-ins, which speak plain HTTP.
    pub(crate) fn client() -> reqwest::Client {
        // Whichever test comes first installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::new()
    }
}
