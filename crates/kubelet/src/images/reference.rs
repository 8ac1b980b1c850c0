//! Image names, normalized as Docker does: `nginx` is `docker.io/library/nginx:latest`.

use super::ImageError;

/// The full form of a name: registry, repository, and a tag or digest.
///
/// # Errors
/// [`ImageError::BadReference`] for empty, upper-case or otherwise malformed names.
pub fn normalize(name: &str) -> Result<String, ImageError> {
    let bad = || ImageError::BadReference { name: name.to_owned() };
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        // A colon before a slash belongs to the registry's port.
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let (registry, repository) = split_registry(path);
    if !repository.split('/').all(is_component) || !is_registry(registry) {
        return Err(bad());
    }
    if tag.is_some_and(|tag| !is_tag(tag)) || digest.is_some_and(|digest| !digest.starts_with("sha256:")) {
        return Err(bad());
    }
    let repository = if registry == "docker.io" && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    Ok(match digest {
        Some(digest) => format!("{registry}/{repository}@{digest}"),
        None => format!("{registry}/{repository}:{}", tag.unwrap_or("latest")),
    })
}

/// A normalized name without its tag or digest.
pub fn repository(name: &str) -> &str {
    let end = name.find('@').or_else(|| name.rfind(':')).unwrap_or(name.len());
    &name[..end]
}

fn split_registry(path: &str) -> (&str, &str) {
    match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (if first == "index.docker.io" { "docker.io" } else { first }, rest)
        }
        _ => ("docker.io", path),
    }
}

fn is_registry(registry: &str) -> bool {
    !registry.is_empty()
        && registry.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'))
}

fn is_component(part: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(part.bytes().next())
        && edge(part.bytes().last())
        && part
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first
        && tag.len() <= 128
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::normalize;

    fn check(name: &str, expect: Option<&str>) {
        assert_eq!(normalize(name).ok().as_deref(), expect, "{name}");
    }

    #[test]
    fn names_are_normalized() {
        check("nginx", Some("docker.io/library/nginx:latest"));
        check("nginx:1.27", Some("docker.io/library/nginx:1.27"));
        check("me/app", Some("docker.io/me/app:latest"));
        check("docker.io/nginx", Some("docker.io/library/nginx:latest"));
        check("localhost/app:v1", Some("localhost/app:v1"));
        check("reg.example:5000/a/b", Some("reg.example:5000/a/b:latest"));
        let digest = format!("app@sha256:{}", "a".repeat(64));
        check(&digest, Some(&format!("docker.io/library/{digest}")));
        check("", None);
        check("Upper", None);
        check("a:b:c", None);
        check("a/../b", None);
        check("app:", None);
    }
}
