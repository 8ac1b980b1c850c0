//! The gateway over WebSockets, as etcd serves it to pages that cannot stream a request (facts: etcd embed/serve.go,
//! tmc/grpc-websocket-proxy wsproxy/websocket_proxy.go, gorilla/websocket server.go).
//!
//! ```text
//! GET /v3/watch, Upgrade: websocket ─▶ 101 ─▶ messages ─▶ body of a POST ─▶ gateway::call
//!                                             messages ◀── lines of its answer ◀──┘
//! ```
//! A method that takes one message is called with the first. (etcd waits for the end of the messages, which only the end
//! of the connection brings, and never answers.)

use std::sync::Arc;
use std::time::Duration;

use base::task::TaskKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tonic::Status;
use tonic::body::Body;

use super::super::grpc::Services;
use super::super::http::error;
use super::super::server::Slot;
use super::{JSON_BYTES_MAX, Peer};

/// Pieces of the body that wait to be read.
const PIECES: usize = 16;
/// How long a client may take to hear that it is over.
const GOODBYE: Duration = Duration::from_secs(2);
/// What a client sends as its key.
const KEY_BYTES: usize = 16;
/// How a page says who it is, which can set no header but this one's: `Bearer, TOKEN`.
const BEARER: &str = "Bearer";
const TOKEN_COOKIE: &str = "token";

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Piece = Result<Frame<Bytes>, Status>;

/// Whether a request wants to become a WebSocket.
pub(super) fn is_asked_for(request: &Request<Body>) -> bool {
    let lists = |name: HeaderName, wanted: &str| {
        let values = request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    request.version() == Version::HTTP_11
        && lists(header::CONNECTION, "upgrade")
        && lists(header::UPGRADE, "websocket")
}

/// Answers the wish, and serves the WebSocket once the client has the answer.
pub(super) fn open(services: &Arc<Services>, peer: Peer, mut request: Request<Body>) -> Response<Body> {
    let accept = match accepted(&request) {
        Ok(accept) => accept,
        Err(status) => return refusal(status),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let slot = request.extensions().get::<Slot>().cloned();
    let (head, _) = request.into_parts();
    let protocol = first(&head.headers, header::SEC_WEBSOCKET_PROTOCOL);
    let bearer = protocol.is_some_and(|protocol| protocol.starts_with(BEARER));
    let mut asked = Request::new(());
    *asked.method_mut() = Method::POST;
    *asked.uri_mut() = head.uri.clone();
    *asked.headers_mut() = who(&head.headers);
    let services = services.clone();
    services.door().tasks.clone().spawn(TaskKind::Connection, "etcd websocket", async move {
        // The connection counts as long as it lasts.
        let _slot = slot;
        let upgraded = TokioIo::new(upgraded.await?);
        let mut config = WebSocketConfig::default();
        (config.max_message_size, config.max_frame_size) = (Some(JSON_BYTES_MAX), Some(JSON_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
        talk(&services, peer, asked, socket).await;
        Ok::<_, hyper::Error>(())
    });
    switching(accept, bearer)
}

/// The answer to the client's key, or why there is none.
fn accepted(request: &Request<Body>) -> Result<HeaderValue, StatusCode> {
    if request.method() != Method::GET {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let headers = request.headers();
    let versions = first(headers, header::SEC_WEBSOCKET_VERSION).unwrap_or_default();
    let key = first(headers, header::SEC_WEBSOCKET_KEY).unwrap_or_default();
    let known = versions.split(',').any(|version| version.trim() == "13");
    if !known || STANDARD.decode(key).map_or(0, |key| key.len()) != KEY_BYTES {
        return Err(StatusCode::BAD_REQUEST);
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| StatusCode::BAD_REQUEST)
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = error(status, status.canonical_reason().unwrap_or_default());
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn switching(accept: HeaderValue, bearer: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if bearer {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
    }
    response
}

fn first(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Who calls, from where pages can say it: a cookie, or else the protocols they offer.
fn who(headers: &HeaderMap) -> HeaderMap {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let cookie = pairs.find(|(name, _)| *name == TOKEN_COOKIE).map(|(_, token)| token);
    let offered = first(headers, header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.and_then(|offered| offered.split_once("Bearer,")).map(|(_, token)| token.trim());
    let token = cookie.or(offered).and_then(|token| HeaderValue::try_from(format!("{BEARER} {token}")).ok());
    token.map(|token| (header::AUTHORIZATION, token)).into_iter().collect()
}

/// Serves one WebSocket to its end.
async fn talk(services: &Arc<Services>, peer: Peer, asked: Request<()>, socket: Socket) {
    let (mut sink, source) = socket.split();
    let (pieces, body) = mpsc::channel(PIECES);
    let call = super::route(asked.method(), asked.uri().path());
    let streams = call.as_ref().is_ok_and(super::json::Call::streams_in);
    let asked = asked.map(|()| Body::new(StreamBody::new(ReceiverStream::new(body))));
    let answer = async {
        let response = match call {
            Ok(call) => super::call(services, call, peer, asked).await,
            Err(status) => super::failure(&status),
        };
        send(response.into_body(), &mut sink).await;
    };
    tokio::select! {
        () = receive(source, pieces, streams) => {}
        () = answer => {}
        () = services.door().token.cancelled() => {}
    }
    // An error means that the client is gone already.
    let _ = tokio::time::timeout(GOODBYE, sink.close()).await;
}

/// Makes messages the body, all of them or the first, until the client is gone.
async fn receive(mut source: SplitStream<Socket>, pieces: mpsc::Sender<Piece>, all: bool) {
    let mut pieces = Some(pieces);
    while let Some(Ok(message)) = source.next().await {
        let payload = match message {
            Message::Text(text) => text.into(),
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            _ => continue,
        };
        let Some(open) = &pieces else { continue };
        let line = [payload, Bytes::from_static(b"\n")];
        for piece in line {
            // An error means that nobody reads the body any more: its answer is on its way.
            let _ = open.send(Ok(Frame::data(piece))).await;
        }
        pieces = pieces.filter(|_| all);
    }
}

/// Makes lines of the answer messages.
async fn send(mut body: Body, sink: &mut SplitSink<Socket, Message>) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        // A frame is a line, or the whole of an answer without its end.
        let line = data.slice(..data.len() - usize::from(data.ends_with(b"\n")));
        let Ok(text) = Utf8Bytes::try_from(line) else { return };
        if !text.is_empty() && sink.send(Message::Text(text)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_who_it_is_by_a_cookie_or_by_its_protocols() {
        let check = |headers: &[(HeaderName, &'static str)], expect: Option<&str>| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            let who = who(&headers.collect());
            assert_eq!(first(&who, header::AUTHORIZATION), expect);
        };
        let (cookie, protocol) = (header::COOKIE, header::SEC_WEBSOCKET_PROTOCOL);
        check(&[], None);
        check(&[(protocol.clone(), "Bearer, abc.1")], Some("Bearer abc.1"));
        check(&[(protocol.clone(), "Bearer,abc.1")], Some("Bearer abc.1"));
        check(&[(protocol.clone(), "other")], None);
        check(&[(cookie.clone(), "a=b; token=x.2; c=d")], Some("Bearer x.2"));
        check(&[(cookie, "token=x.2"), (protocol, "Bearer, abc.1")], Some("Bearer x.2"));
    }
}
