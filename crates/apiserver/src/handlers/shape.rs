//! Objects in the shape the client asked for: themselves, a Table, or their metadata.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use kube_types::registry::Resource;
use kube_types::status::Status;
use kube_types::{convert, print};
use serde_json::{Value, json};

use crate::cache::Item;
use crate::http::body::Body;
use crate::http::negotiate::{Accepted, Format, Shape};
use crate::http::query::Query;
use crate::http::respond::{self, Answer};
use crate::objects;

/// A list is written in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// What a Table's rows carry of their objects (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// How answers of one request look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) accepted: Accepted,
    pub(crate) include: Include,
    pub(crate) now_ms: i64,
}

impl Look {
    pub(crate) fn new(accepted: Accepted, query: &Query, now_ms: i64) -> Result<Self, Status> {
        let include = match query.text("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}")));
            }
        };
        Ok(Self { accepted, include, now_ms })
    }

    /// One object.
    pub(crate) fn object(&self, code: StatusCode, resource: &Resource, object: Value) -> Response<Body> {
        let object = self.value(resource, object, true);
        respond::object(code, self.accepted.format, &object)
    }

    /// One object's value in the shape asked for; `columns` says whether a Table names its columns.
    pub(crate) fn value(&self, resource: &Resource, object: Value, columns: bool) -> Value {
        let object = to_served(resource, object);
        match self.accepted.shape {
            Shape::Object => object,
            Shape::Metadata => objects::partial(&object, self.accepted.meta_version),
            Shape::Table => {
                let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                let rows = vec![self.row(resource, object)];
                let metadata = json!({ "resourceVersion": version });
                self.table(columns.then_some(resource), metadata, rows)
            }
        }
    }

    /// Whether cached bytes can be sent as they are.
    pub(crate) fn is_verbatim(&self, resource: &Resource) -> bool {
        self.accepted.shape == Shape::Object
            && self.accepted.format == Format::Json
            && resource.storage_gvk == resource.gvk
    }

    /// A list.
    pub(crate) fn list(&self, resource: &Resource, metadata: Value, items: &[Arc<Item>]) -> Answer {
        if self.is_verbatim(resource) {
            return Ok(respond::json_pieces(concatenate(resource, &metadata, items)));
        }
        let values = items.iter().map(|item| to_served(resource, item.value()));
        let list = match self.accepted.shape {
            Shape::Table => {
                let rows = values.map(|object| self.row(resource, object)).collect();
                self.table(Some(resource), metadata, rows)
            }
            Shape::Metadata => {
                let version = self.accepted.meta_version;
                json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": metadata,
                    "items": values.map(|object| objects::partial(&object, version)).collect::<Vec<_>>(),
                })
            }
            Shape::Object => json!({
                "kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata,
                "items": values.collect::<Vec<_>>(),
            }),
        };
        Ok(respond::object(StatusCode::OK, self.accepted.format, &list))
    }

    fn table(&self, columns: Option<&Resource>, metadata: Value, rows: Vec<Value>) -> Value {
        let columns = columns.map_or(&[][..], |r| print::columns(&r.gvk.group, &r.gvk.kind));
        let columns: Vec<Value> = columns
            .iter()
            .map(|c| {
                json!({
                    "name": c.name, "type": c.kind, "format": c.format, "description": c.description,
                    "priority": c.priority,
                })
            })
            .collect();
        json!({
            "kind": "Table", "apiVersion": format!("meta.k8s.io/{}", self.accepted.meta_version),
            "metadata": metadata, "columnDefinitions": columns, "rows": rows,
        })
    }

    fn row(&self, resource: &Resource, object: Value) -> Value {
        let cells = print::row(&resource.gvk.group, &resource.gvk.kind, &object, self.now_ms);
        let mut row = json!({ "cells": cells });
        match self.include {
            Include::None => {}
            Include::Metadata => row["object"] = objects::partial(&object, self.accepted.meta_version),
            Include::Object => row["object"] = object,
        }
        row
    }
}

/// A stored object at the version it is asked for.
pub(crate) fn to_served(resource: &Resource, object: Value) -> Value {
    if resource.storage_gvk == resource.gvk {
        return object;
    }
    convert::from_storage(resource, object)
}

/// `{"kind":"PodList",...,"items":[` and the cached bytes of each item.
fn concatenate(resource: &Resource, metadata: &Value, items: &[Arc<Item>]) -> VecDeque<Bytes> {
    let mut pieces = VecDeque::new();
    let mut piece = BytesMut::with_capacity(PIECE_BYTES.min(256 + items.len() * 1024));
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        resource.list_kind,
        resource.api_version()
    );
    piece.extend_from_slice(head.as_bytes());
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            piece.extend_from_slice(b",");
        }
        item.encoded.write(item.revision, &mut piece);
        if piece.len() >= PIECE_BYTES {
            pieces.push_back(piece.split().freeze());
        }
    }
    piece.extend_from_slice(b"]}\n");
    pieces.push_back(piece.freeze());
    pieces
}
