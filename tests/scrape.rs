//! The scrape port, over a real socket.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use zeta_bft::http::{self, Bound, Health, HttpError};
use zeta_bft::metrics::WrapperMetrics;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn request(addr: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("connects");
    stream.write_all(text.as_bytes()).expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    answer
}

async fn get(addr: SocketAddr, path: &'static str, accept: &'static str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    tokio::task::spawn_blocking(move || request(addr, &text)).await.expect("no panic")
}

async fn serve(announce: PathBuf, health: &Health) -> (Bound, tokio::sync::oneshot::Sender<()>) {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let bound = http::serve(LOOPBACK, announce, WrapperMetrics::new().exposition(), health.clone(), shutdown).await;
    (bound.expect("a free port"), stop)
}

#[tokio::test]
async fn a_scraper_gets_the_format_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, _stop) = serve(dir.path().join("run/x.metrics"), &Health::starting()).await;
    let text = get(bound.addr, "/metrics", "*/*").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{text}");
    assert!(text.contains("# TYPE zeta_bft_ticks_total counter\n"), "{text}");
    assert!(!text.contains("# EOF"), "{text}");
    let open = get(bound.addr, "/metrics", "application/openmetrics-text").await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{open}");
    assert!(open.ends_with("# EOF\n"), "{open}");
}

#[tokio::test]
async fn the_latches_answer_503_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let health = Health::starting();
    let (bound, _stop) = serve(dir.path().join("x.metrics"), &health).await;
    assert!(get(bound.addr, "/livez", "*/*").await.starts_with("HTTP/1.1 200"));
    let answer = get(bound.addr, "/readyz", "*/*").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("starting\n"), "{answer}");
    health.ready();
    assert!(get(bound.addr, "/readyz", "*/*").await.starts_with("HTTP/1.1 200"));
    health.not_ready("no session with the warden");
    assert!(get(bound.addr, "/readyz", "*/*").await.ends_with("no session with the warden\n"));
    health.dead("the journal failed");
    assert!(get(bound.addr, "/livez", "*/*").await.ends_with("the journal failed\n"));
    assert!(get(bound.addr, "/nothing", "*/*").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn the_bound_address_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let announce = dir.path().join("warden.metrics");
    let (bound, _stop) = serve(announce.clone(), &Health::starting()).await;
    assert_ne!(bound.addr.port(), 0);
    assert_eq!(std::fs::read_to_string(announce).unwrap().trim().parse::<SocketAddr>().unwrap(), bound.addr);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_keeps_nobody_from_serving() {
    let dir = tempfile::tempdir().unwrap();
    // As on a full disk: the new file cannot be made beside the place.
    std::fs::create_dir(dir.path().join("x.metrics.new")).unwrap();
    std::fs::write(dir.path().join("x.metrics"), "127.0.0.1:1\n").unwrap();
    for announce in [dir.path().join("x.metrics"), PathBuf::from("/proc/nowhere/x.metrics")] {
        let (bound, _stop) = serve(announce.clone(), &Health::starting()).await;
        assert!(get(bound.addr, "/livez", "*/*").await.starts_with("HTTP/1.1 200"));
        assert!(!announce.exists(), "an earlier address would mislead");
    }
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, _stop) = serve(dir.path().join("x.metrics"), &Health::starting()).await;
    let metrics = WrapperMetrics::new().exposition();
    let again = http::serve(bound.addr, dir.path().join("y"), metrics, Health::starting(), std::future::pending());
    let error = again.await.expect_err("the port is taken");
    assert!(matches!(error, HttpError::Bind { addr, .. } if addr == bound.addr));
    assert!(error.to_string().contains(&bound.addr.to_string()), "{error}");
    assert!(!dir.path().join("y").exists());
}

#[tokio::test]
async fn on_a_node_a_taken_port_is_served_once_it_is_free_and_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, stop) = serve(dir.path().join("x.metrics"), &Health::starting()).await;
    let announce = dir.path().join("y.metrics");
    let (metrics, health) = (WrapperMetrics::new().exposition(), Health::starting());
    let (stop_waiting, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let waiting = http::serve_when_free(bound.addr, announce.clone(), metrics, health, shutdown).await.expect("waits");
    assert!(!announce.exists());
    drop(stop);
    bound.task.await.expect("no panic");
    while !announce.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(get(waiting.addr, "/livez", "*/*").await.starts_with("HTTP/1.1 200"));
    drop(stop_waiting);
    waiting.task.await.expect("drains");
}

#[tokio::test]
async fn a_client_that_never_finishes_does_not_hold_up_the_drain() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, stop) = serve(dir.path().join("x.metrics"), &Health::starting()).await;
    let mut slow = TcpStream::connect(bound.addr).unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
    assert!(get(bound.addr, "/livez", "*/*").await.starts_with("HTTP/1.1 200"));
    drop(stop);
    tokio::time::timeout(std::time::Duration::from_secs(10), bound.task).await.expect("drains").expect("no panic");
}

#[tokio::test]
async fn who_speaks_http_2_is_hung_up_on_however_slowly_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, _stop) = serve(dir.path().join("x.metrics"), &Health::starting()).await;
    let addr = bound.addr;
    let said = |parts: &'static [&'static [u8]]| async move {
        let talk = move || {
            let mut stream = TcpStream::connect(addr).expect("connects");
            stream.set_nodelay(true).expect("sets");
            stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("sets");
            for part in parts {
                // It may have hung up already.
                let _ = stream.write_all(part);
                std::thread::yield_now();
            }
            let mut said = Vec::new();
            match stream.read_to_end(&mut said) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                Err(error) => panic!("it neither answers nor hangs up: {error}"),
            }
            said
        };
        tokio::task::spawn_blocking(talk).await.expect("no panic")
    };
    // The preface, and settings without any.
    let whole: &'static [&'static [u8]] = &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0]];
    let slow: &'static [&'static [u8]] =
        &[b"P", b"R", b"I", b" * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0]];
    for parts in [whole, slow] {
        let said = said(parts).await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4"), "{said:?}");
    }
    assert!(get(addr, "/livez", "*/*").await.starts_with("HTTP/1.1 200"), "everybody else is served");
}
