//! A device's request for a token that says which device it is.
//!
//! Source: `tailscale/tailscale tailcfg/tailcfg.go TokenRequest` and `TokenResponse`.

use bowline_model::key::NodeKey;
use serde::Serialize;

use crate::fields::{BadRequest, Fields};

/// `POST /machine/id-token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The device's node key.
    pub node_key: NodeKey,
    /// For whom the token is.
    pub audience: String,
}

impl TokenRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is not an object with these fields.
    pub fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        let fields = Fields::parse(body)?;
        Ok(Self {
            node_key: fields.required("NodeKey")?,
            audience: fields.or_default("Audience")?,
        })
    }
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenResponse {
    /// The token: a signed JSON Web Token.
    pub id_token: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_a_node_key_and_an_audience() {
        let key = format!("nodekey:{}", "12".repeat(32));
        let read = |body: String| TokenRequest::parse(body.as_bytes());
        let body = format!(r#"{{"CapVersion":113,"NodeKey":"{key}","Audience":"sts.example"}}"#);
        let request = read(body).unwrap();
        assert_eq!(request.node_key.to_string(), key);
        assert_eq!(request.audience, "sts.example");
        assert_eq!(
            read(format!(r#"{{"nodekey":"{key}"}}"#)).unwrap().audience,
            ""
        );
        for bad in [
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"NodeKey":"x","Audience":"a"}"#.to_owned(),
            format!(r#"{{"NodeKey":"{key}","Audience":1}}"#),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
