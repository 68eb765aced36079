//! Metrics and health → `/metrics`, `/livez` and `/readyz` on one port, as long as the server is held.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::task::JoinHandle;

use super::health::Health;
use super::metrics::{self, MetricsPage};
use crate::error::{ErrorKind, Failure};

/// The format in which Prometheus reads text.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A server under way; dropping it closes the port.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Opens the port and begins to count. Needs a runtime.
    /// Errors: the port cannot be opened.
    pub fn start(listen: SocketAddr, health: Arc<Health>) -> Result<Self, Failure> {
        let unusable = |error: std::io::Error| Failure {
            kind: ErrorKind::Config,
            message: format!("metrics.listen: {listen} cannot be opened"),
            cause: Some(Box::new(error)),
        };
        let listener = TcpListener::bind(listen).map_err(unusable)?;
        listener.set_nonblocking(true).map_err(unusable)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let routes = routes(metrics::install(), health);
        let task = tokio::spawn(async move {
            // It answers until it is dropped; single connections that break concern nobody.
            let _endless = axum::serve(listener, routes).await;
        });
        Ok(Self { address, task })
    }

    /// Where it listens; tells the port if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn routes(page: MetricsPage, health: Arc<Health>) -> Router {
    let of_readiness = Arc::clone(&health);
    Router::new()
        .route("/metrics", get(async move || ([(header::CONTENT_TYPE, METRICS_TYPE)], page.text())))
        .route("/livez", get(async move || liveness(&health)))
        .route("/readyz", get(async move || readiness(&of_readiness)))
}

fn liveness(health: &Health) -> (StatusCode, String) {
    if health.is_alive() {
        return (StatusCode::OK, "alive\n".to_owned());
    }
    let seconds = health.stillness().as_secs();
    (StatusCode::SERVICE_UNAVAILABLE, format!("nothing has moved for {seconds} seconds while work is left\n"))
}

fn readiness(health: &Health) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not begun yet, or ending\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn status(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    }

    #[tokio::test]
    async fn probes_follow_the_run_from_its_beginning_to_its_end() {
        let health = Arc::new(Health::new());
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = MetricsServer::start(listen, Arc::clone(&health)).unwrap();
        let address = server.address();
        let both = async || (status(address, "/livez").await, status(address, "/readyz").await);
        let answers = |live: &str, ready: &str| (live.to_owned(), ready.to_owned());
        assert_eq!(both().await, answers("200", "503"));
        health.ready();
        assert_eq!(both().await, answers("200", "200"));
        health.set_patience(Duration::ZERO);
        assert_eq!(both().await, answers("503", "200"));
        health.stopping();
        assert_eq!(both().await, answers("200", "503"));
        assert_eq!(status(address, "/metrics").await, "200");
        let failure = MetricsServer::start(address, health).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Config);
        assert!(failure.message.contains("metrics.listen"), "{}", failure.message);
        drop(server);
    }

    #[tokio::test]
    async fn the_page_has_every_metric_with_its_kind_and_help() {
        let page = metrics::install();
        metrics::stage_seconds("fetch", 0.25);
        metrics::run_begins("run", ["one", "two"], crate::units::Bytes(1), crate::units::Bytes(2));
        let text = page.text();
        for metric in metrics::METRICS {
            let kind = match metric.kind {
                metrics::MetricKind::Counter => "counter",
                metrics::MetricKind::Gauge => "gauge",
            };
            for line in [format!("# TYPE {} {kind}\n", metric.name), format!("# HELP {} ", metric.name)] {
                assert!(text.contains(&line), "{line} is not in {text}");
            }
        }
        for cluster_id in ["one", "two"] {
            let label = format!("cluster_id=\"{cluster_id}\"");
            let is_info = |line: &&str| line.starts_with("gristmill_run_info{") && line.contains(&label);
            assert_eq!(text.lines().filter(is_info).count(), 1, "{text}");
        }
        assert!(
            text.lines().any(|line| line.starts_with("gristmill_stage_seconds_total{stage=\"fetch\"} 0.25")),
            "{text}"
        );
    }
}
