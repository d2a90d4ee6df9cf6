//! A way to webhook endpoints that makes no request: it keeps what it is given.
#![allow(
    clippy::unwrap_used,
    reason = "it is for tests alone, which fail where something is not as it must be"
)]

use std::sync::Mutex;

use bowline_engine::{Courier, Delivery, Sending};
use serde_json::Value;

/// Endpoints by their URL: what each got, and whether it takes what it gets.
#[derive(Debug, Default)]
pub struct Post {
    /// What was taken.
    pub got: Mutex<Vec<Delivery>>,
    /// Parts of URLs of endpoints that answer with an error.
    pub refusing: Mutex<Vec<&'static str>>,
    /// The same of endpoints that never answer.
    pub silent: Mutex<Vec<&'static str>>,
}

impl Courier for Post {
    fn check(&self, url: &str) -> Result<(), String> {
        if url.contains("private") {
            return Err("is a private address".to_owned());
        }
        Ok(())
    }

    fn deliver(&self, delivery: Delivery) -> Sending {
        let is_in = |list: &Mutex<Vec<&str>>| {
            let list = list.lock().unwrap();
            list.iter().any(|part| delivery.url.contains(part))
        };
        if is_in(&self.silent) {
            return Box::pin(std::future::pending());
        }
        if is_in(&self.refusing) {
            return Box::pin(async { Err("the endpoint answered 500".to_owned()) });
        }
        self.got.lock().unwrap().push(delivery);
        Box::pin(async { Ok(()) })
    }
}

impl Post {
    /// One whose endpoints never answer.
    pub fn silent() -> Self {
        Self {
            silent: Mutex::new(vec![""]),
            ..Self::default()
        }
    }

    /// Bodies that an endpoint got since the last time.
    pub fn take(&self, part: &str) -> Vec<Value> {
        let mut got = self.got.lock().unwrap();
        let (own, rest) = got.drain(..).partition(|one| one.url.contains(part));
        *got = rest;
        let own: Vec<Delivery> = own;
        own.iter()
            .map(|one| serde_json::from_slice(&one.body).unwrap())
            .collect()
    }

    /// Types of the events that an endpoint got since the last time, in order.
    pub fn types(&self, part: &str) -> Vec<String> {
        self.take(part)
            .iter()
            .flat_map(|body| body.as_array().unwrap().clone())
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }
}
