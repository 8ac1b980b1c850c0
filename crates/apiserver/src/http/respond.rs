//! Values, lists and Statuses to HTTP answers.

use std::collections::VecDeque;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    VARY,
};
use http::{HeaderMap, Response, StatusCode};
use kube_types::status::Status;
use serde_json::Value;

use super::body::Body;
use super::negotiate::Format;

/// An answer, or the Status that says why not.
pub(crate) type Answer = Result<Response<Body>, Status>;

/// Answers smaller than this are not worth compressing (upstream's threshold).
const GZIP_BYTES_MIN: usize = 128 << 10;
/// At most so many warnings and bytes of them go into headers (upstream's limits).
const WARNINGS_MAX: usize = 20;
const WARNING_BYTES_MAX: usize = 4096;

const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer with this code, type and body.
pub(crate) fn raw(code: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    response
}

/// Plain text, as the health endpoints speak.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    raw(code, HeaderValue::from_static("text/plain; charset=utf-8"), Body::full(text))
}

/// An object as JSON.
pub(crate) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    json_bytes(code, to_json(value))
}

/// JSON that is already encoded.
pub(crate) fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    raw(code, JSON, Body::full(bytes))
}

/// JSON in pieces.
pub(crate) fn json_pieces(pieces: VecDeque<Bytes>) -> Response<Body> {
    raw(StatusCode::OK, JSON, Body::pieces(pieces))
}

/// An object in the format asked for.
pub(crate) fn object(code: StatusCode, format: Format, value: &Value) -> Response<Body> {
    match format {
        Format::Json => json(code, value),
        Format::Yaml => {
            // JSON values always have a YAML form.
            let yaml = serde_saphyr::to_string(value).unwrap_or_default();
            raw(code, HeaderValue::from_static("application/yaml"), Body::full(yaml))
        }
    }
}

/// Encodes a value; maps have text keys, so this cannot fail.
pub(crate) fn to_json(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// A Status as the answer.
pub(crate) fn status(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &status.to_value());
    let seconds = status.details().map_or(0, |d| d.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds `Warning: 299` headers (RFC 7234), one for each text.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut bytes = 0;
    for warning in warnings.iter().take(WARNINGS_MAX) {
        bytes += warning.len();
        if bytes > WARNING_BYTES_MAX {
            break;
        }
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
}

/// Compresses a big answer when the client takes gzip.
pub(crate) fn compress(request: &HeaderMap, response: Response<Body>) -> Response<Body> {
    let big = response.body().known_len().is_some_and(|len| len > GZIP_BYTES_MIN);
    let accepts = request.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    if !big || !accepts.flat_map(|v| v.split(',')).any(|e| e.trim().starts_with("gzip")) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    match body.into_pieces() {
        Err(stream) => Response::from_parts(parts, stream),
        Ok(pieces) => {
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            Response::from_parts(parts, Body::full(gzip(&pieces)))
        }
    }
}

fn gzip(pieces: &VecDeque<Bytes>) -> Vec<u8> {
    // Level 1, as upstream: the link is fast, the processor is shared.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for piece in pieces {
        // Writing to a vector cannot fail.
        let _ = encoder.write_all(piece);
    }
    encoder.finish().unwrap_or_default()
}
