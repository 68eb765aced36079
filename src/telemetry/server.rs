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
