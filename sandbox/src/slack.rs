//! Slack: its Web API below `/api`, and an incoming webhook at `/webhook`.

use std::io;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri},
};

use crate::{
    outside::{Outcome, OutsideWorld, Service},
    serve::Served,
    switch::Switch,
};

/// The stand-in, which serves until it is dropped.
#[derive(Debug)]
pub struct Slack {
    served: Served,
    switch: Switch,
}

impl Slack {
    /// Serves on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let router = Router::new().fallback(anything).with_state(world);
        let served = Served::start(router, port).await?;
        Ok(Self {
            served,
            switch: Switch::default(),
        })
    }

    /// Its address, without a slash at its end.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// How it fails.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }
}

async fn anything(State(world): State<OutsideWorld>, uri: Uri, body: Bytes) -> StatusCode {
    world
        .record(Service::Slack, uri.path(), &body)
        .end(Outcome::Answered(200));
    StatusCode::OK
}
