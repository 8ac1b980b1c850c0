//! Bearer tokens, client certificates, impersonation.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use identity::token::{Bound, Claims};
use identity::{UserInfo, groups};
use kube_types::path;
use kube_types::status::Status;

use super::Attributes;
use crate::http::query::unescape;
use crate::server::{Caller, Server};

/// Who sent the request. None: nobody we know, and they showed nothing.
pub(crate) async fn authenticate(
    server: &Server,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, Status> {
    if let Some(user) = &caller.trusted {
        return Ok(Some(user.clone()));
    }
    if let Some(user) = &caller.certificate {
        return Ok(Some(user.clone()));
    }
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let header = header.to_str().map_err(|_| Status::unauthorized())?;
    let (scheme, token) = header.split_once(' ').ok_or_else(Status::unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Status::unauthorized());
    }
    let audiences = [server.issuer().to_owned()];
    let claims = verify_token(server, token.trim(), &audiences).await;
    claims.map_err(|_| Status::unauthorized())?.user().map(Some).ok_or_else(Status::unauthorized)
}

/// A service-account token's claims, when it is genuine and all it is bound to still exists.
pub(crate) async fn verify_token(
    server: &Server,
    token: &str,
    audiences: &[String],
) -> Result<Claims, String> {
    let now_s = server.now_ms() / 1000;
    let claims = server.verifier().verify(token, audiences, now_s).map_err(|e| e.to_string())?;
    let (namespace, name) = claims.account().ok_or("the token names no service account")?;
    let account = claims.private.serviceaccount.as_ref().ok_or("the token names no service account")?;
    let bound =
        |prefix: &str, bound: &Bound| (format!("{prefix}{namespace}/{}", bound.name), bound.uid.clone());
    let mut needed = vec![(format!("/registry/serviceaccounts/{namespace}/{name}"), account.uid.clone())];
    needed.extend(claims.private.pod.iter().map(|pod| bound("/registry/pods/", pod)));
    needed.extend(claims.private.secret.iter().map(|secret| bound("/registry/secrets/", secret)));
    for (key, uid) in needed {
        let object = server.read(&key).await.map_err(|e| e.to_string())?;
        let object = object.ok_or_else(|| format!("{key} no longer exists"))?;
        if path::text(&object.value, &["metadata", "uid"]) != uid {
            return Err(format!("{key} is not the one the token was made for"));
        }
    }
    Ok(claims)
}

/// The user somebody asks to be treated as, if they may.
pub(crate) async fn impersonate(
    server: &Server,
    user: UserInfo,
    headers: &HeaderMap,
) -> Result<UserInfo, Status> {
    let Some(wanted) = wanted_user(headers)? else { return Ok(user) };
    for attributes in needed_rights(&wanted) {
        if !server.rbac().allows(&user, &attributes, server.revision()).await {
            return Err(attributes.forbidden(&user));
        }
    }
    Ok(complete(wanted))
}

fn wanted_user(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    const EXTRA: &str = "impersonate-extra-";
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut wanted =
        UserInfo { name: text("impersonate-user"), uid: text("impersonate-uid"), ..UserInfo::default() };
    let group_values = headers.get_all("impersonate-group").iter();
    wanted.groups = group_values.filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) {
            wanted.extra.entry(unescape(key)).or_default().push(value.to_owned());
        }
    }
    let nothing = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
    match (wanted.name.is_empty(), nothing) {
        (true, true) => Ok(None),
        (true, false) => {
            let why = "requested impersonation without a user; the header Impersonate-User is missing";
            Err(Status::bad_request(why))
        }
        (false, _) => Ok(Some(wanted)),
    }
}

fn needed_rights(wanted: &UserInfo) -> Vec<Attributes<'_>> {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let right = |group, resource, name| Attributes {
        verb: "impersonate",
        group,
        resource,
        name,
        ..Attributes::default()
    };
    let account = wanted.name.strip_prefix("system:serviceaccount:").and_then(|u| u.split_once(':'));
    let mut needed = vec![match account {
        Some((namespace, name)) => Attributes { namespace, ..right("", "serviceaccounts", name) },
        None => right("", "users", &wanted.name),
    }];
    needed.extend(wanted.groups.iter().map(|group| right("", "groups", group)));
    if !wanted.uid.is_empty() {
        needed.push(right(AUTHENTICATION, "uids", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        let extra = |value| Attributes { subresource: key, ..right(AUTHENTICATION, "userextras", value) };
        needed.extend(values.iter().map(|value| extra(value)));
    }
    needed
}

/// Adds the groups that everybody of that kind has.
fn complete(mut wanted: UserInfo) -> UserInfo {
    if wanted.groups.is_empty() {
        let account = wanted.name.strip_prefix("system:serviceaccount:").and_then(|u| u.split_once(':'));
        if let Some((namespace, name)) = account {
            wanted.groups = UserInfo::service_account(namespace, name, "").groups;
        }
    }
    if wanted.name == "system:anonymous" {
        wanted.join(groups::UNAUTHENTICATED);
    } else {
        wanted.join(groups::AUTHENTICATED);
    }
    wanted
}
