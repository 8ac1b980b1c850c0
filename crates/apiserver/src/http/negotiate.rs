//! Which shape and encoding of an answer the client wants (checklist 50).

/// How objects are shaped on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Object,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata, or its list.
    Metadata,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

/// One acceptable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) shape: Shape,
    pub(crate) format: Format,
    /// The `meta.k8s.io` version asked for, `v1` or `v1beta1`.
    pub(crate) meta_version: &'static str,
}

impl Accepted {
    pub(crate) const JSON: Self = Self { shape: Shape::Object, format: Format::Json, meta_version: "v1" };
}

/// One element of an Accept header: the media type and its parameters.
struct Element<'a> {
    media: &'a str,
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> Element<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let params = parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
        Self { media, params }
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(k, _)| *k == name).map(|(_, v)| *v)
    }

    fn weight(&self) -> f32 {
        self.param("q").and_then(|q| q.parse().ok()).unwrap_or(1.0)
    }
}

fn elements(accept: &str) -> Vec<Element<'_>> {
    let mut all: Vec<_> = accept.split(',').map(Element::parse).filter(|e| !e.media.is_empty()).collect();
    // Stable: equals keep the client's order.
    all.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
    all
}

/// The first acceptable answer for an object; None is 406.
///
/// A client that asks for nothing but protobuf gets JSON, and sees so in Content-Type: protobuf is not spoken here yet.
pub(crate) fn objects(accept: &str) -> Option<Accepted> {
    let all = elements(accept);
    if all.is_empty() {
        return Some(Accepted::JSON);
    }
    all.iter().find_map(acceptable)
}

fn acceptable(element: &Element<'_>) -> Option<Accepted> {
    let format = match element.media {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        "application/vnd.kubernetes.protobuf" if element.param("as").is_none() => Format::Json,
        _ => return None,
    };
    let meta_version = match element.param("v") {
        Some("v1beta1") => "v1beta1",
        _ => "v1",
    };
    let shape = match element.param("as") {
        None => Shape::Object,
        Some(_) if !matches!(element.param("g"), Some("meta.k8s.io")) => return None,
        Some("Table") => Shape::Table,
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Shape::Metadata,
        Some(_) => return None,
    };
    Some(Accepted { shape, format, meta_version })
}

/// Which form of discovery is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    Aggregated,
    Legacy,
}

/// The first acceptable form of `/api` and `/apis`.
pub(crate) fn discovery(accept: &str) -> Discovery {
    let aggregated = |e: &Element<'_>| {
        e.media == "application/json"
            && e.param("g") == Some("apidiscovery.k8s.io")
            && e.param("v") == Some("v2")
            && e.param("as") == Some("APIGroupDiscoveryList")
    };
    let plain = |e: &Element<'_>| matches!(e.media, "application/json" | "*/*") && e.param("as").is_none();
    let first = elements(accept).into_iter().find(|e| aggregated(e) || plain(e));
    if first.is_some_and(|e| aggregated(&e)) { Discovery::Aggregated } else { Discovery::Legacy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expect: Option<(Shape, Format, &str)>) {
        assert_eq!(objects(accept).map(|a| (a.shape, a.format, a.meta_version)), expect, "{accept}");
    }

    #[test]
    fn answers_are_negotiated() {
        let json = Some((Shape::Object, Format::Json, "v1"));
        check("", json);
        check("*/*", json);
        check("application/json", json);
        check("application/vnd.kubernetes.protobuf, application/json", json);
        check("application/yaml", Some((Shape::Object, Format::Yaml, "v1")));
        check("text/html", None);
        check("application/json;as=Other;g=meta.k8s.io;v=v1", None);
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        check(kubectl, Some((Shape::Table, Format::Json, "v1")));
        let gc = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        check(gc, Some((Shape::Metadata, Format::Json, "v1")));
        check("application/yaml;q=0.5, application/json", json);
    }

    #[test]
    fn discovery_is_negotiated() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(kubectl), Discovery::Aggregated);
        assert_eq!(discovery("application/json"), Discovery::Legacy);
        assert_eq!(discovery(""), Discovery::Legacy);
    }
}
