//! Who is believed, and as whom we ask.

use super::authority::{Authority, PAST};
use super::server::{self, Server, answer};
use super::*;

/// What a server with this configuration comes to, asked once.
async fn judged(place: &Place, config: rustls::ServerConfig) -> (Probe, Option<super::super::Certificate>) {
    let server = Server::configured(config, |_| answer(200, "ok")).await;
    let endpoint = endpoint(server.address);
    (livez(&endpoint, place, PATIENT).await, endpoint.leaf())
}

#[tokio::test]
async fn who_the_ca_vouches_for_at_this_address_or_as_localhost_is_believed() {
    let authority = Authority::fixed();
    let place = Place::of(authority);
    for host in ["127.0.0.1", "localhost"] {
        let (probe, leaf) = judged(&place, server::config(&authority.leaf(&["kubernetes", host]))).await;
        assert_eq!(probe, status(200, "ok"), "{host}");
        assert!(
            leaf.is_some_and(|leaf| leaf.not_after == authority::END && leaf.place.starts_with("https://127.0.0.1:"))
        );
    }
    let (probe, _) = judged(&place, server::config_of_old(&authority.leaf(&["127.0.0.1"]))).await;
    assert_eq!(probe, status(200, "ok"), "TLS 1.2");
}

#[tokio::test]
async fn whoever_else_answers_is_a_stranger() {
    let (authority, other) = (Authority::fixed(), Authority::new());
    let place = Place::of(authority);
    let named = |hosts: &[&str]| server::config(&authority.leaf(hosts));
    for (who, config) in [
        ("of another CA with the same name", server::config(&other.leaf(&["127.0.0.1"]))),
        ("of another CA, and ended", server::config(&other.leaf_of(&["127.0.0.1"], (2020, 2021)))),
        ("for another host", named(&["kubernetes", "10.43.0.1"])),
        ("not yet valid", server::config(&authority.leaf_of(&["127.0.0.1"], (2090, 2096)))),
        ("for another host, and ended", server::config(&authority.leaf_of(&["10.43.0.1"], (2020, 2021)))),
    ] {
        assert_eq!(judged(&place, config).await, (Probe::Stranger, None), "{who}");
    }
}

#[tokio::test]
async fn an_ended_certificate_is_no_proof_but_is_told_from_a_strangers() {
    let authority = Authority::fixed();
    let place = Place::of(authority);
    let ended = authority.leaf_of(&["127.0.0.1"], (2020, 2021));
    let (probe, leaf) = judged(&place, server::config(&ended)).await;
    assert_eq!(probe, Probe::Stranger);
    assert_eq!(leaf.map(|leaf| (leaf.is_ca, leaf.not_after)), Some((false, PAST)));
}

#[tokio::test]
async fn a_copied_certificate_without_its_key_shows_nothing() {
    let authority = Authority::fixed();
    let place = Place::of(authority);
    let thief = Authority::new().leaf(&["127.0.0.1"]);
    for copied in [authority.leaf(&["127.0.0.1"]), authority.leaf_of(&["127.0.0.1"], (2020, 2021))] {
        assert_eq!(judged(&place, server::config_with_stolen(&copied, &thief)).await, (Probe::Stranger, None));
    }
}

#[tokio::test]
async fn a_renewed_ca_file_counts_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut place = Place::of(&old);
    let server = Server::tls(&new.leaf(&["127.0.0.1"]), |_| answer(200, "ok")).await;
    place.settings.address = server.address;
    let mut observer = super::super::Observer::new(place.settings.clone()).unwrap();
    let mut livez = async || observer.look(|| None).await.livez;
    assert_eq!(livez().await, Probe::Stranger);
    place.write("ca.crt", &new.pem);
    assert_eq!(livez().await, status(200, "ok"));
    // What was believed under a CA that is gone is not believed on its held connection either.
    place.write("ca.crt", &old.pem);
    assert_eq!(livez().await, Probe::Stranger);
    std::fs::remove_file(place.dir.path().join("ca.crt")).unwrap();
    assert!(matches!(livez().await, Probe::Unable(reason) if reason.contains("ca.crt")));
    place.write("ca.crt", &new.pem);
    assert_eq!(livez().await, status(200, "ok"));
}

#[tokio::test]
async fn a_ca_file_that_makes_no_sense_is_said_to_be_so_and_nobody_is_asked() {
    let place = Place::of(Authority::fixed());
    for text in ["", "words", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &"x".repeat(300_000)] {
        place.write("ca.crt", text);
        assert!(place.identity().err().unwrap().contains("ca.crt"));
    }
}

#[tokio::test]
async fn the_token_is_sent_and_a_new_one_after_it() {
    let authority = Authority::fixed();
    let place = Place::of(authority);
    let file = place.write("token", "first\n");
    let mut place = place.with(Credential::Token { file });
    let server = Server::tls(&authority.leaf(&["127.0.0.1"]), |_| answer(200, "ok")).await;
    place.settings.address = server.address;
    let mut observer = super::super::Observer::new(place.settings.clone()).unwrap();
    observer.look(|| None).await;
    place.write("token", "second");
    observer.look(|| None).await;
    let sent: Vec<_> = server
        .requests()
        .iter()
        .map(|request| {
            request.to_lowercase().split("authorization: ").nth(1).unwrap().lines().next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(sent, [["bearer first"; 3], ["bearer second"; 3]].concat());
    for wrong in ["", "two words", "two\nlines", "caf\u{e9}"] {
        place.write("token", wrong);
        let look = observer.look(|| None).await;
        assert!(matches!(look.readyz, Probe::Unable(reason) if reason.contains("token")), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks_for_one() {
    let (authority, clients) = (Authority::fixed(), Authority::new());
    let serving = authority.leaf(&["127.0.0.1"]);
    let config = || server::config_for_clients(&serving, &clients);
    let shown = |leaf: &authority::Leaf| {
        let place = Place::of(authority);
        let (certificate, key) = (place.write("client.pem", &leaf.pem), place.write("client-key.pem", &leaf.key_pem));
        place.with(Credential::Certificate { certificate, key })
    };
    assert_eq!(judged(&shown(&clients.leaf(&["observer"])), config()).await.0, status(200, "ok"));
    // To be turned away says nothing of k3s.
    for unwelcome in [shown(&authority.leaf(&["observer"])), Place::of(authority)] {
        let (probe, _) = judged(&unwelcome, config()).await;
        assert!(matches!(&probe, Probe::Unable(reason) if reason.contains("client certificate")), "{probe:?}");
    }
    let key_of_another = shown(&clients.leaf(&["observer"]));
    key_of_another.write("client-key.pem", &clients.leaf(&["other"]).key_pem);
    assert!(key_of_another.identity().is_err());
}
