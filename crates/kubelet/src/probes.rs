//! Carries out probes and lifecycle hooks: a command, an HTTP request, a TCP connection, a sleep.

use crate::context::Context;
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;
use tokio::net::TcpStream;

/// Carries out one probe: Ok, or the text that follows "Readiness probe failed: ".
pub(crate) async fn run(
    context: &Context,
    container: &Container,
    id: &str,
    ip: &str,
    probe: &Probe,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        return run_exec(context, id, exec, timeout).await;
    }
    let attempt = async {
        if let Some(http) = &probe.http_get {
            return http_get(http, container, ip).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            return tcp_connect(tcp, container, ip).await;
        }
        Err("this node carries out exec, httpGet and tcpSocket probes only".to_owned())
    };
    tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| {
        Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned())
    })
}

/// Runs a lifecycle hook.
pub(crate) async fn run_hook(
    context: &Context,
    container: &Container,
    id: &str,
    ip: &str,
    hook: &LifecycleHandler,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        return run_exec(context, id, exec, timeout).await;
    }
    if let Some(http) = &hook.http_get {
        return http_get(http, container, ip).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    match &hook.tcp_socket {
        Some(tcp) => tcp_connect(tcp, container, ip).await,
        None => Ok(()),
    }
}

async fn run_exec(context: &Context, id: &str, exec: &ExecAction, timeout: Duration) -> Result<(), String> {
    let command = exec.command.clone().unwrap_or_default();
    match context.runtime.exec_sync(id, &command, timeout).await {
        Ok(output) if output.code == 0 => Ok(()),
        Ok(output) => Err(output.output),
        Err(error) => Err(error.to_string()),
    }
}

/// A port by number or by its name in the container.
fn port_of(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => name.parse().ok().or_else(|| {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port)
        }),
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| "couldn't find port".to_owned())
}

async fn tcp_connect(tcp: &TCPSocketAction, container: &Container, ip: &str) -> Result<(), String> {
    let host = tcp.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
    let port = port_of(&tcp.port, container)?;
    match TcpStream::connect((host, port)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("dial tcp {host}:{port}: {}", dial_text(&error))),
    }
}

fn dial_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    }
}

async fn http_get(action: &HTTPGetAction, container: &Container, ip: &str) -> Result<(), String> {
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
    let port = port_of(&action.port, container)?;
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let https = action.scheme.as_deref() == Some("HTTPS");
    let url = format!("{}://{host}:{port}{path}", if https { "https" } else { "http" });
    let failed = |text: String| format!("Get \"{url}\": {text}");
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| failed(format!("dial tcp {host}:{port}: {}", dial_text(&error))))?;
    let mut request =
        http::Request::get(&path).header("user-agent", "kube-probe/1.36").header("accept", "*/*");
    let mut named_host = false;
    for header in action.http_headers.iter().flatten() {
        named_host |= header.name.eq_ignore_ascii_case("host");
        request = request.header(&header.name, &header.value);
    }
    if !named_host {
        request = request.header("host", format!("{host}:{port}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(error.to_string()))?;
    let response = if https {
        let stream = crate::server::tls::connect_unverified(stream, host)
            .await
            .map_err(|error| failed(error.to_string()))?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    };
    let status = response.map_err(failed)?;
    // Redirects count as success: the server answers.
    if (200..400).contains(&status) {
        return Ok(());
    }
    Err(format!("HTTP probe failed with statuscode: {status}"))
}

async fn exchange<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<u16, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        Ok(response.status().as_u16())
    };
    let mut talk = std::pin::pin!(talk);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut talk => answer,
        // The server may close as soon as it has answered; the answer is then still to be read.
        _ = &mut connection => talk.await,
    }
}
