//! Every way not to answer as one should, in the clear and over TLS.

use super::super::Look;
use super::server::{Reply, Server, answer};
use super::*;

async fn tls(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (Server, Place) {
    let authority = Authority::fixed();
    (Server::tls(&authority.leaf(&["127.0.0.1"]), script).await, Place::of(authority))
}

#[tokio::test]
async fn every_status_is_an_answer_and_one_connection_brings_them_all() {
    for code in [200, 401, 403, 404, 429, 500, 503] {
        let (server, place) = tls(move |_| answer(code, "as\u{1b}[1m it is\n")).await;
        let endpoint = endpoint(server.address);
        let identity = place.identity();
        for _ in 0..5 {
            assert_eq!(probe::https(&endpoint, &identity, "/livez", PATIENT).await, status(code, "as it is"));
        }
        assert_eq!(server.accepts(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let (server, place) = tls(|_| Reply::Silence).await;
    let address = server.address;
    drop(server);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(livez(&endpoint(address), &place, PATIENT).await, Probe::Refused);
    assert_eq!(probe::http(Some(&endpoint(address)), "/healthz", PATIENT).await, Probe::Refused);
}

#[tokio::test]
async fn silence_is_a_time_out_before_the_handshake_and_after_it() {
    let (silent, place) = tls(|_| Reply::Silence).await;
    assert_eq!(livez(&endpoint(silent.address), &place, SHORT).await, Probe::TimedOut);
    // Nobody accepts: the kernel alone takes the connection, as for a process that is stopped.
    let stopped = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stopped.local_addr().unwrap();
    assert_eq!(livez(&endpoint(address), &place, SHORT).await, Probe::TimedOut);
    assert_eq!(probe::http(Some(&endpoint(address)), "/healthz", SHORT).await, Probe::TimedOut);
    let another_uid = Endpoint::new(address, Some(me() + 1), SHORT);
    assert_eq!(livez(&another_uid, &place, SHORT).await, Probe::Stranger, "whose socket is silent matters");
}

#[tokio::test]
async fn in_the_clear_only_the_expected_uid_is_asked() {
    let server = Server::plain(|_| answer(500, "not well")).await;
    let another_uid = Endpoint::new(server.address, Some(me() + 1), PATIENT);
    assert_eq!(probe::http(Some(&another_uid), "/healthz", PATIENT).await, Probe::Stranger);
    assert!(server.requests().is_empty());
    let expected = endpoint(server.address);
    for _ in 0..3 {
        assert_eq!(probe::http(Some(&expected), "/healthz", PATIENT).await, status(500, "not well"));
    }
    assert_eq!(server.accepts(), 2);
    assert!(server.requests()[0].starts_with("GET /healthz HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_slow_head_is_no_answer_and_a_slow_body_does_not_unmake_one() {
    let (server, place) = tls(|_| Reply::Drip(vec![], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into())).await;
    assert_eq!(livez(&endpoint(server.address), &place, SHORT).await, Probe::TimedOut);
    let head = b"HTTP/1.1 500 X\r\nContent-Length: 400\r\n\r\nfailed: ";
    let (server, place) = tls(|_| Reply::Drip(head.into(), vec![b'x'; 390])).await;
    let endpoint = endpoint(server.address);
    let probe = livez(&endpoint, &place, SHORT).await;
    assert!(matches!(&probe, Probe::Status { code: 500, said } if said.starts_with("failed: ")), "{probe:?}");
    assert!(livez(&endpoint, &place, SHORT).await.fails());
    assert_eq!(server.accepts(), 2, "what is not at its end is not used again");
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000)).into_bytes();
    let (server, place) = tls(move |_| Reply::Endless(head.clone(), chunk.clone())).await;
    let probe = livez(&endpoint(server.address), &place, PATIENT).await;
    assert_eq!(probe, status(200, &"x".repeat(Look::SAID_MAX)));
}

#[tokio::test]
async fn what_is_no_http_is_a_strangers() {
    for (first, then) in [
        (b"HTTP/1.1 200 OK\r\n".as_slice(), b"X-More: and more\r\n".as_slice()),
        (b"", b"\0\xff\r\n\r\n"),
        (b"HTTP/2.0 200 OK\r\n\r\n", b""),
        (b"HTTP/1.1 999999 OK\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", b""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"\r\n"),
    ] {
        let reply = move |_: &str| {
            if then.is_empty() { Reply::Say(first.into()) } else { Reply::Endless(first.into(), then.into()) }
        };
        let (server, place) = tls(reply).await;
        let what = String::from_utf8_lossy(first);
        assert_eq!(livez(&endpoint(server.address), &place, PATIENT).await, Probe::Stranger, "{what}");
        let plain = Server::plain(reply).await;
        let probe = probe::http(Some(&endpoint(plain.address)), "/livez", PATIENT).await;
        assert_eq!(probe, Probe::Stranger, "{what}");
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_a_stranger() {
    let place = Place::of(Authority::fixed());
    for words in [
        None,
        Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice()),
        Some(b"\x15\x03\x03\x00\x02\x02\x28"),
        Some(b"\x16\x03\x03\xff\xff"),
        Some(&[0; 70_000]),
    ] {
        let server = Server::shouting(words).await;
        // The fourth is silent in the middle of a record that is too long, or is refused for it.
        let probe = livez(&endpoint(server.address), &place, SHORT).await;
        let cut = words.is_some_and(|words| words.len() == 5);
        assert!(probe == Probe::Stranger || (cut && probe == Probe::TimedOut), "{words:?}: {probe:?}");
    }
}

#[tokio::test]
async fn promises_of_an_answer_without_end_are_no_answer() {
    let again = b"HTTP/1.1 102 Processing\r\n\r\n".to_vec();
    let (server, place) = tls(move |_| Reply::Endless(vec![], again.clone())).await;
    let probe = livez(&endpoint(server.address), &place, SHORT).await;
    assert!(!probe.answers(), "{probe:?}");
}

#[tokio::test]
async fn a_connection_closed_between_questions_is_made_anew_and_one_closed_for_an_answer_is_none() {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let (server, place) = tls(move |_| Reply::SayAndClose(ok.clone())).await;
    let identity = place.identity();
    let asked = endpoint(server.address);
    for _ in 0..3 {
        assert_eq!(probe::https(&asked, &identity, "/livez", PATIENT).await, status(200, "ok"));
    }
    assert_eq!(server.accepts(), 3);
    let (server, place) = tls(|_| Reply::SayAndClose(b"HTTP/1.1 2".to_vec())).await;
    assert_eq!(livez(&endpoint(server.address), &place, PATIENT).await, Probe::TimedOut);
}

#[tokio::test]
async fn a_path_that_hangs_does_not_hide_the_others() {
    let (server, mut place) =
        tls(|request| if request.starts_with("GET /ping") { Reply::Silence } else { answer(200, "ok") }).await;
    place.settings.address = server.address;
    place.settings.limit = SHORT;
    let mut observer = super::super::Observer::new(place.settings.clone()).unwrap();
    let look = observer.look(|| None).await;
    assert_eq!((look.ping, look.livez, look.readyz), (Probe::TimedOut, status(200, "ok"), status(200, "ok")));
}
