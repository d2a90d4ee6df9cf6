//! Settings of requests that the server makes to addresses that others chose.

use std::path::PathBuf;

use ipnet::IpNet;

use super::section::section;

section! {
    /// Requests that the server makes to addresses that its users chose: of issuers of workload
    /// tokens, of webhook endpoints. They go to public addresses alone and follow no redirect, so
    /// that nobody reaches through them what only this server reaches.
    pub struct Outbound["outbound"] {
        /// Networks that such requests may go to though they are not public.
        ///
        /// For an issuer or a receiver in your own network. Whoever may make a webhook or a federated
        /// identity can then send requests to every address in these networks; list single addresses
        /// (`10.1.2.3/32`) where you can. Requests over plain HTTP go to these networks alone.
        allow_networks: Vec<IpNet>, default "none" { Vec::new() };

        /// A file of certificates, PEM, of authorities to believe beside those that this machine
        /// trusts.
        ///
        /// For an issuer or a receiver whose certificate a company's own authority signed, as the API
        /// server of a Kubernetes cluster. It is read at the start.
        ca_file: Option<PathBuf>, default "none" { None };
    }
}
