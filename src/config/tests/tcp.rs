//! `[tcp.NAME]`: what is refused, and what becomes of the rest.

use super::{complaint, paths, with};
use crate::config::parse;
use crate::protocol::types::PersonaId;

#[test]
fn nothing_listens_on_tcp_unless_it_is_configured() {
    assert!(parse(&with(""), "node.toml", &paths()).unwrap().tcp.is_empty());
    let settings = parse(&with("[tcp.otto]\nlisten = \"10.0.0.1:9484\"\n"), "node.toml", &paths()).unwrap();
    let otto = settings.tcp[&PersonaId::new("otto").unwrap()];
    assert_eq!((settings.tcp.len(), otto.listen, otto.address), (1, otto.listen, "10.0.0.1:9484".parse().unwrap()));
}

#[test]
fn the_others_are_told_another_address_where_one_is_written() {
    let written = "[tcp.otto]\nlisten = \"0.0.0.0:9484\"\naddress = \"10.0.0.1:19484\"\n";
    let otto = parse(&with(written), "node.toml", &paths()).unwrap().tcp[&PersonaId::new("otto").unwrap()];
    assert_eq!((otto.listen.to_string(), otto.address.to_string()), ("0.0.0.0:9484".into(), "10.0.0.1:19484".into()));
}

#[test]
fn every_bad_address_gets_its_own_complaint() {
    let cases = [
        (
            "[tcp.ottto]\nlisten = \"10.0.0.1:9484\"\n",
            "node.toml:13:6: unknown persona `ottto`\n  13 | [tcp.ottto]\n     |      ^^^^^ did you mean `otto`?",
        ),
        ("[tcp.otto]\n", "node.toml:13:6: [tcp.otto] has no `listen`\n  13 | [tcp.otto]\n     |      ^^^^"),
        (
            "[tcp.otto]\nlisten = \"10.0.0.1:0\"\n",
            "node.toml:14:10: `listen` needs a port that the others know, not 0\n  14 | listen = \"10.0.0.1:0\"\n     |          ^^^^^^^^^^^^",
        ),
        (
            "[tcp.otto]\nlisten = \"0.0.0.0:9484\"\n",
            "node.toml:14:10: 0.0.0.0:9484 does not tell the others where to find it: write `address` as well\n  14 | listen = \"0.0.0.0:9484\"\n     |          ^^^^^^^^^^^^^^",
        ),
        (
            "[tcp.otto]\nlisten = \"10.0.0.1:1\"\naddress = \"[::]:1\"\n",
            "node.toml:15:11: [::]:1 is no address of anybody\n  15 | address = \"[::]:1\"\n     |           ^^^^^^^^",
        ),
        (
            "[tcp.otto]\nport = 9484\n",
            "node.toml:14:1: unknown field `port`\n  14 | port = 9484\n     | ^^^^ expected `listen` or `address`",
        ),
        (
            "[tcp.lior]\nlisten = \"10.0.0.1:1\"\n[tcp.otto]\nlisten = \"10.0.0.1:1\"\n",
            "node.toml:16:10: lior and otto have one and the same address, 10.0.0.1:1\n  16 | listen = \"10.0.0.1:1\"\n     |          ^^^^^^^^^^^^",
        ),
        (
            "[tcp.otto]\nlisten = \"127.0.0.1:9464\"\n",
            "node.toml: [tcp.otto] listens on 127.0.0.1:9464, the scrape address of the warden",
        ),
    ];
    for (written, wanted) in cases {
        assert_eq!(complaint(&with(written)), wanted);
    }
}
