//! As little of a gRPC client as a load needs: what the client costs is taken from the server on the same cores.

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use parking_lot::Mutex;
use prost::Message;
use rustls_pki_types::ServerName;
use store::external::RootsAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub type Failure = Box<dyn Error + Send + Sync>;

/// A flag and the length.
pub const HEAD_BYTES: usize = 5;
/// What a server may send ahead: whole ranges.
const WINDOW_BYTES: u32 = 1 << 30;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection.
#[derive(Clone)]
pub struct Channel {
    requests: client::SendRequest<Bytes>,
    /// A request's head for each path that was called, so that none is parsed twice.
    heads: Arc<Mutex<BTreeMap<&'static str, Uri>>>,
    authority: Arc<str>,
}

impl Channel {
    /// Connects, with the certificates in a directory that `serve certs` made when one is given.
    pub async fn connect(address: &str, pki: Option<&str>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream: Pin<Box<dyn Stream>> = match pki {
            None => Box::pin(stream),
            Some(pki) => {
                let dir = std::path::Path::new(pki).join("etcd");
                let (certificate, key) = (dir.join("client.crt"), dir.join("client.key"));
                let (ca, client) = (&*dir.join("ca.crt"), Some((&*certificate, &*key)));
                let config = RootsAndKey { ca, client }.config()?;
                let name = ServerName::try_from("localhost")?;
                Box::pin(TlsConnector::from(config).connect(name, stream).await?)
            }
        };
        let mut builder = client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        builder.max_frame_size(1 << 20);
        let (requests, connection) = builder.handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self { requests, heads: Arc::default(), authority: address.into() })
    }

    /// Begins a call.
    pub async fn open(
        &self,
        path: &'static str,
    ) -> Result<(client::ResponseFuture, SendStream<Bytes>), Failure> {
        let mut request = Request::new(());
        (*request.method_mut(), *request.version_mut()) = (Method::POST, Version::HTTP_2);
        *request.uri_mut() = self.uri(path)?;
        let content = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(header::CONTENT_TYPE, content);
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        let mut requests = self.requests.clone().ready().await?;
        Ok(requests.send_request(request, false)?)
    }

    fn uri(&self, path: &'static str) -> Result<Uri, Failure> {
        let mut heads = self.heads.lock();
        if let Some(uri) = heads.get(path) {
            return Ok(uri.clone());
        }
        let uri = Uri::builder().scheme("http").authority(&*self.authority).path_and_query(path).build()?;
        heads.insert(path, uri.clone());
        Ok(uri)
    }

    /// A call with one message each way; the answer's bytes.
    pub async fn call(&self, path: &'static str, message: &impl Message) -> Result<Bytes, Failure> {
        let pieces = self.pieces(path, message).await?;
        let mut answer = match &pieces[..] {
            [whole] => whole.clone(),
            pieces => pieces.concat().into(),
        };
        if answer.len() < HEAD_BYTES {
            return Err("an answer without a message".into());
        }
        answer.advance(HEAD_BYTES);
        Ok(answer)
    }

    /// The same, with the message's head, as the bytes came.
    pub async fn pieces(&self, path: &'static str, message: &impl Message) -> Result<Vec<Bytes>, Failure> {
        let (response, mut out) = self.open(path).await?;
        out.send_data(framed(message), true)?;
        let response = response.await?;
        check(response.headers())?;
        let mut body = response.into_body();
        let mut pieces = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            pieces.push(piece);
        }
        check(&body.trailers().await?.unwrap_or_default())?;
        Ok(pieces)
    }
}

/// A message and its head.
pub fn framed(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEAD_BYTES + len);
    out.put_u8(0);
    out.put_u32(len as u32);
    message.encode_raw(&mut out);
    out.freeze()
}

fn check(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get("grpc-status") {
        Some(status) if status != "0" => {
            let text = headers.get("grpc-message").map_or("", |text| text.to_str().unwrap_or_default());
            Err(format!("status {status:?}: {text}").into())
        }
        _ => Ok(()),
    }
}

/// The messages of a stream.
pub struct Messages {
    body: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    pub fn new(body: RecvStream) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message's bytes; None at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() {
                let [_, len @ ..] = *head;
                let len = u32::from_be_bytes(len) as usize;
                if self.buffer.len() >= HEAD_BYTES + len {
                    self.buffer.advance(HEAD_BYTES);
                    return Ok(Some(self.buffer.split_to(len).freeze()));
                }
            }
            let Some(piece) = self.body.data().await else { return Ok(None) };
            let piece = piece?;
            self.body.flow_control().release_capacity(piece.len())?;
            self.buffer.extend_from_slice(&piece);
        }
    }
}
