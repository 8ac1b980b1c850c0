//! The JSON gateway: `POST /v3/...` with a message as JSON, answered by the same services as gRPC.
//!
//! ```text
//! JSON ─▶ json: message of the method's kind ─▶ gRPC frame ─▶ Services ─▶ gRPC frames ─▶ json ─▶ JSON
//!                                                                └▶ grpc-status ─▶ {"code":..,"message":..} and an HTTP status
//! ```
//! What grpc-gateway does in etcd: field names as in the interface definition, unset fields left out, 64-bit integers as
//! text, bytes in base64, unknown fields ignored. A method that streams takes JSON values one after the other, and answers
//! with lines `{"result":...}`, the last of which may be `{"error":...}`. Both ways over a WebSocket too, see `socket`.

mod body;
mod explain;
mod json;
mod socket;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::{Code, Status};

pub(super) use json::pool;

use super::auth::GATEWAY_MARK;
use super::grpc::Services;
use super::{MESSAGE_BYTES_MAX, Peer};

/// What all paths of the gateway begin with.
const PREFIX: &str = "/v3/";
/// What etcd 3.3's began with; still served.
const OLD_PREFIX: &str = "/v3beta/";
/// Most bytes of a message as JSON: base64 makes four of three, names and signs come on top.
const JSON_BYTES_MAX: usize = MESSAGE_BYTES_MAX * 2;
/// A header of HTTP with this prefix becomes one of gRPC without it.
const METADATA_PREFIX: &str = "grpc-metadata-";
const COMMON_NAME: &str =
    "CommonName of client sending a request against gateway will be ignored and not used as expected\n";

/// Whether a path is the gateway's.
pub(super) fn is_ours(path: &str) -> bool {
    path.starts_with(PREFIX) || path.starts_with(OLD_PREFIX)
}

/// Serves a request of the gateway. `auth` is whether callers must say who they are.
pub(super) async fn serve(services: &Arc<Services>, request: Request<Body>, auth: bool) -> Response<Body> {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    if auth && peer.common_name.is_some() {
        return super::grpc::plain(StatusCode::BAD_REQUEST, COMMON_NAME.to_owned());
    }
    if socket::is_asked_for(&request) {
        return socket::open(services, peer, request);
    }
    match route(request.method(), request.uri().path()) {
        Ok(method) => call(services, method, peer, request).await,
        Err(status) => failure(&status),
    }
}

/// The method behind a path.
fn route(method: &Method, path: &str) -> Result<json::Call, Status> {
    let path = match path.strip_prefix(OLD_PREFIX) {
        Some(rest) => format!("{PREFIX}{rest}"),
        None => path.to_owned(),
    };
    let found = etcd_wire::ROUTES.iter().find(|(known, ..)| *known == path);
    let Some((_, service, name)) = found else { return Err(Status::not_found("Not Found")) };
    if method != Method::POST {
        return Err(Status::unimplemented("Method Not Allowed"));
    }
    json::Call::new(service, name).ok_or_else(|| Status::internal("Unexpected routing error"))
}

async fn call(services: &Services, call: json::Call, peer: Peer, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = match call.streams_in() {
        true => body::frames(call.clone(), body),
        false => match body::read(body).await.and_then(|json| call.frame_first(&json)) {
            Ok(frame) => Body::new(http_body_util::Full::new(frame)),
            Err(status) => return failure(&status),
        },
    };
    let mut inner = Request::new(body);
    *inner.method_mut() = Method::POST;
    *inner.uri_mut() = call.uri();
    *inner.version_mut() = http::Version::HTTP_2;
    *inner.headers_mut() = metadata(&parts.headers);
    inner.extensions_mut().insert(peer);
    let response = services.call(inner).await;
    if let Some(status) =
        Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
    {
        return if call.streams_out() { stream_failure(&status) } else { failure(&status) };
    }
    if call.streams_out() {
        return answer(body::lines(call, response.into_body()));
    }
    match unary(&call, response).await {
        Ok(json) => answer(Body::new(http_body_util::Full::new(json))),
        Err(status) => failure(&status),
    }
}

fn answer(body: Body) -> Response<Body> {
    let mut response = json_response(StatusCode::OK, body);
    let name = HeaderName::from_static("grpc-metadata-content-type");
    response.headers_mut().insert(name, HeaderValue::from_static("application/grpc"));
    response
}

/// The one message of an answer, or the refusal behind it.
async fn unary(call: &json::Call, response: Response<Body>) -> Result<Bytes, Status> {
    let collected = response.into_body().collect().await?;
    let status = collected.trailers().and_then(Status::from_header_map);
    if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
        return Err(status);
    }
    let bytes = collected.to_bytes();
    let message = bytes.get(json::FRAME_HEAD_BYTES..).ok_or_else(|| Status::internal("no answer"))?;
    call.to_json(message)
}

/// What of the headers the services see.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    out.insert(HeaderName::from_static("te"), HeaderValue::from_static("trailers"));
    out.insert(HeaderName::from_static(GATEWAY_MARK), HeaderValue::from_static("*/*"));
    for name in ["authorization", "grpc-timeout"] {
        if let Some(value) = headers.get(name) {
            out.insert(HeaderName::from_static(name), value.clone());
        }
    }
    for (name, value) in headers {
        let inner = name.as_str().strip_prefix(METADATA_PREFIX);
        if let Some(Ok(name)) = inner.map(|name| HeaderName::from_bytes(name.as_bytes())) {
            out.append(name, value.clone());
        }
    }
    out
}

fn json_response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal of a method that does not stream.
fn failure(status: &Status) -> Response<Body> {
    let body = json::status(status).to_string();
    let mut response =
        json_response(http_status(status.code()), Body::new(http_body_util::Full::new(Bytes::from(body))));
    if status.code() == Code::Unauthenticated
        && let Ok(value) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// A refusal of a method that streams, before its first message.
fn stream_failure(status: &Status) -> Response<Body> {
    let body = json::error_line(status);
    json_response(http_status(status.code()), Body::new(http_body_util::Full::new(body)))
}

fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
