//! The file that kubectl reads.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Error, Leaf, files};

/// A kubeconfig with one cluster, user and context, all called `name`, certificates embedded.
#[must_use]
pub fn kubeconfig(name: &str, server: &str, ca_pem: &str, user: &Leaf) -> String {
    let (ca, certificate, key) =
        (STANDARD.encode(ca_pem), STANDARD.encode(&user.certificate_pem), STANDARD.encode(&user.key_pem));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {ca}\ncontexts:\n- name: {name}\n  context:\n    cluster: {name}\n    \
         user: {name}\ncurrent-context: {name}\npreferences: {{}}\nusers:\n- name: {name}\n  user:\n    \
         client-certificate-data: {certificate}\n    client-key-data: {key}\n"
    )
}

/// Writes the kubeconfig `ketch` for `server` (a URL), mode 0600.
///
/// # Errors
/// When the file cannot be written.
pub fn write_kubeconfig(path: &Path, server: &str, ca_pem: &str, user: &Leaf) -> Result<(), Error> {
    files::write(path, &kubeconfig("ketch", server, ca_pem, user), files::Mode::Private)
}
