//! `/exec/{namespace}/{pod}/{container}` over WebSocket: protocols v5 and v4 of `channel.k8s.io`.
//!
//! Every binary message begins with its channel: 0 stdin, 1 stdout, 2 stderr, 3 error (a `metav1.Status` at the
//! end), 4 resize; v5 adds 255 with the number of a channel that the client closes.

use super::{Body, Query, Target, stream, text};
use crate::context::Context;
use crate::runtime::{ExecProcess, ExecRequest};
use crate::shim::protocol::{Resize, ShimPhase};
use base::task::TaskKind;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};

/// Newest first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// What one message carries of output.
const CHUNK: usize = 32 << 10;
/// Messages on their way to a slow client.
const MESSAGES_MAX: usize = 8;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Upgrades the connection and runs the command.
///
/// A container that is not there is told after the upgrade, on the error channel: a refused upgrade makes kubectl
/// try another protocol and show that one's error instead.
pub(crate) fn exec(context: &Arc<Context>, target: &Target, request: Request<Incoming>) -> Response<Body> {
    let query = Query::parse(request.uri().query());
    let command = query.all("command").to_vec();
    if command.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 container command");
    }
    let id = find(context, target);
    let Some((protocol, key)) = negotiate(&request) else {
        let message =
            format!("unable to upgrade: this server speaks WebSocket with {}", PROTOCOLS.join(", "));
        return match id {
            Ok(_) => text(StatusCode::BAD_REQUEST, &message),
            Err(message) => text(StatusCode::NOT_FOUND, &message),
        };
    };
    // The API server's names on the left, a client's own on the right.
    let either = |kubelet: &str, client: &str| query.is_true(kubelet) || query.is_true(client);
    let tty = query.is_true("tty");
    let exec = ExecRequest { command, tty, stdin: either("input", "stdin"), timeout: None };
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.spawn(TaskKind::Connection, "exec", async move {
        let upgraded = hyper::upgrade::on(request).await.map_err(io::Error::other)?;
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        match id {
            Ok(id) => run(&context, &id, &exec, socket).await,
            Err(message) => refuse(socket, &message).await,
        }
        Ok::<(), io::Error>(())
    });
    switching(protocol, &key)
}

/// The id of the running container, or the kubelet's words for its absence.
fn find(context: &Context, target: &Target) -> Result<String, String> {
    match stream::find(context, target, false) {
        Ok(found) if found.state.as_ref().is_some_and(|state| state.phase == ShimPhase::Running) => {
            Ok(found.meta.id)
        }
        Ok(_) | Err((StatusCode::BAD_REQUEST, _)) => {
            Err(format!("container not found (\"{}\")", target.container))
        }
        Err((_, message)) => Err(message),
    }
}

fn switching(protocol: &'static str, key: &[u8]) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// The best protocol both speak, and the client's key.
fn negotiate(request: &Request<Incoming>) -> Option<(&'static str, Vec<u8>)> {
    let headers = request.headers();
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes().to_vec();
    let offered: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    PROTOCOLS.into_iter().find(|protocol| offered.contains(protocol)).map(|protocol| (protocol, key))
}

async fn run(context: &Context, id: &str, request: &ExecRequest, socket: Socket) {
    let (sink, source) = socket.split();
    let (messages, outgoing) = mpsc::channel::<Message>(MESSAGES_MAX);
    let work = async {
        let status = match context.runtime.exec(id, request) {
            Ok(process) => talk(process, source, messages.clone()).await,
            Err(error) => internal(&error.to_string()),
        };
        finish(&messages, &status).await;
        drop(messages);
    };
    tokio::join!(work, forward(outgoing, sink));
}

async fn refuse(socket: Socket, message: &str) {
    let (sink, _source) = socket.split();
    let (messages, outgoing) = mpsc::channel::<Message>(MESSAGES_MAX);
    let message = format!("unable to upgrade connection: {message}");
    let status =
        json!({"metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404, "message": message});
    let work = async {
        finish(&messages, &status).await;
        drop(messages);
    };
    tokio::join!(work, forward(outgoing, sink));
}

/// The last words: the status on the error channel, then the close frame.
async fn finish(messages: &mpsc::Sender<Message>, status: &Value) {
    let _ = messages.send(message(ERROR, status.to_string().as_bytes())).await;
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = messages.send(Message::Close(Some(close))).await;
}

async fn forward(mut outgoing: mpsc::Receiver<Message>, mut sink: SplitSink<Socket, Message>) {
    while let Some(message) = outgoing.recv().await {
        if sink.send(message).await.is_err() {
            // The client left: output is dropped from here on.
            outgoing.close();
        }
    }
}

/// Copies both ways until the process has ended and its output is read: the final status.
async fn talk(
    mut process: ExecProcess,
    source: SplitStream<Socket>,
    messages: mpsc::Sender<Message>,
) -> Value {
    let stdout = copy_out(process.stdout.take(), STDOUT, messages.clone());
    let stderr = copy_out(process.stderr.take(), STDERR, messages);
    let (sizes_in, mut sizes) = mpsc::channel::<Resize>(MESSAGES_MAX);
    let input = read_client(source, process.stdin.take(), sizes_in);
    let run = async {
        let output = async { tokio::join!(stdout, stderr) };
        let mut output = std::pin::pin!(output);
        loop {
            tokio::select! {
                _ = &mut output => break,
                Some(size) = sizes.recv() => process.resize(size).await,
            }
        }
        process.wait().await
    };
    let mut run = std::pin::pin!(run);
    let mut input = std::pin::pin!(input);
    let result = tokio::select! {
        result = &mut run => result,
        // The client closed its side; what the process still says is for nobody, but its end is awaited.
        () = &mut input => run.await,
    };
    match result {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}}),
        Err(error) => internal(&error.to_string()),
    }
}

fn internal(text: &str) -> Value {
    let message = format!("Internal error occurred: error executing command in container: {text}");
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": message,
        "details": {"causes": [{"message": format!("error executing command in container: {text}")}]}})
}

async fn copy_out(output: Option<impl AsyncRead + Unpin>, channel: u8, messages: mpsc::Sender<Message>) {
    let Some(mut output) = output else { return };
    let mut chunk = vec![0u8; CHUNK];
    while let Ok(n) = output.read(&mut chunk).await {
        if n == 0 {
            return;
        }
        // A client that left does not stop the process: it is read on and dropped.
        let _ = messages.send(message(channel, &chunk[..n])).await;
    }
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(data.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(data);
    Message::Binary(Bytes::from(bytes))
}

/// Feeds the process until the client closes; then closes its input.
async fn read_client(
    mut source: SplitStream<Socket>,
    stdin: Option<ChildStdin>,
    sizes: mpsc::Sender<Resize>,
) {
    let mut stdin = stdin;
    while let Some(Ok(incoming)) = source.next().await {
        let data = match incoming {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            _ => continue,
        };
        match (data.first(), data.get(1..)) {
            (Some(&STDIN), Some(bytes)) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            (Some(&RESIZE), Some(bytes)) => {
                if let Ok(size) = serde_json::from_slice::<Resize>(bytes) {
                    let _ = sizes.send(size).await;
                }
            }
            (Some(&CLOSE), Some([channel, ..])) if *channel == STDIN => stdin = None,
            _ => {}
        }
    }
}
