use super::*;
use crate::doctor::accounts::fixture::{PASSWD, cast};
use crate::doctor::filter::Prefix;
use crate::doctor::finding::Level;
use crate::doctor::tree::Tree;
use crate::doctor::units;
use crate::observe::k3s::Role as Kind;
use proptest::prelude::*;

const CA: &str = "/etc/zeta-bft/k3s/ca.crt";
const CERTIFICATE: &str = "/etc/zeta-bft/k3s/client.crt";
const KEY: &str = "/etc/zeta-bft/k3s/client.key";
const OWN_CA: &str = "/var/lib/rancher/k3s/server/tls/server-ca.crt";
/// 2030-01-01, when the certificates here have ten years left.
const NOW: u64 = 1_893_456_000;
const UNIT: &str = "zeta-bft-agent@otto.service";

/// A self-signed certificate that ends in the year given, and its key.
fn certificate(year: i32) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 11);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Set up as `mint-credential` leaves it, with a certificate that ends on January 11th of a year.
fn minted(year: i32) -> Tree {
    let (certificate, key) = certificate(year);
    let ca = self::certificate(2040).0;
    let tree = Tree::new().mode("/", 0o755).file(CA, &ca).file(CERTIFICATE, &certificate).file(KEY, &key);
    tree.file(OWN_CA, &ca).mode(KEY, 0o640).owner(KEY, 0, 910)
}

fn config() -> K3sConfig {
    let mut config = K3sConfig::new(Kind::Server);
    config.ca = Some(CA.into());
    config.credential = Credential::Certificate { certificate: CERTIFICATE.into(), key: KEY.into() };
    config
}

fn found_of(tree: &Tree, config: &K3sConfig, unit: &str) -> Vec<(&'static str, Level, String)> {
    let cast = cast();
    let accounts = Accounts::parse(PASSWD, "root:x:0:\nzeta-bft-agents:x:910:\n");
    let said = units::parse(unit);
    let agents = [Agent { unit: UNIT, account: accounts.user("zeta-bft-otto"), said: said.get(UNIT) }];
    let node = tree.node();
    let facts = Facts { node: &node, cast: &cast, accounts: &accounts, agents: &agents, now: NOW };
    let configured = [(SubjectName::new("k3s").unwrap(), config.clone())].into();
    let section = check(&facts, &configured);
    assert!(section.findings.iter().all(|finding| finding.level == Level::Skipped || finding.fix.is_some()));
    section.findings.into_iter().map(|finding| (finding.id, finding.level, finding.subject)).collect()
}

fn shipped() -> String {
    format!(
        "Id={UNIT}\nSupplementaryGroups=zeta-bft-agents\nIPAddressAllow=127.0.0.0/8 ::1/128\nIPAddressDeny=0.0.0.0/0 ::/0\n\n"
    )
}

fn found(tree: &Tree) -> Vec<(&'static str, Level, String)> {
    found_of(tree, &config(), &shipped())
}

fn error(id: &'static str, place: &str) -> Vec<(&'static str, Level, String)> {
    vec![(id, Level::Error, place.to_owned())]
}

#[test]
fn a_credential_as_it_is_minted_is_well() {
    assert_eq!(found(&minted(2040)), []);
}

#[test]
fn what_is_missing_is_an_error_each_by_its_name() {
    for (file, id) in [(CA, "k3s-ca-missing"), (CERTIFICATE, "k3s-certificate-missing"), (KEY, "k3s-key-missing")] {
        assert_eq!(found(&minted(2040).gone(file)), error(id, file));
    }
    let nobody = K3sConfig { credential: Credential::Nobody, ..config() };
    let said = found_of(&minted(2040), &nobody, &shipped());
    assert_eq!(said, [("k3s-no-credential", Level::Warning, "k3s".to_owned())]);
    let token = K3sConfig { credential: Credential::Token { file: "/etc/token".into() }, ..config() };
    assert_eq!(found_of(&minted(2040), &token, &shipped()), error("k3s-key-missing", "/etc/token"));
}

#[test]
fn what_an_agent_cannot_read_is_an_error_and_not_known_where_systemd_is_silent() {
    let without = shipped().replace("=zeta-bft-agents", "=");
    assert_eq!(found_of(&minted(2040), &config(), &without), error("k3s-key-unreadable", KEY));
    let by_number = shipped().replace("=zeta-bft-agents", "=910");
    assert_eq!(found_of(&minted(2040), &config(), &by_number), []);
    assert_eq!(found(&minted(2040).mode(KEY, 0o600)), error("k3s-key-unreadable", KEY));
    assert_eq!(found(&minted(2040).owner(KEY, 0, 0)), error("k3s-key-unreadable", KEY), "the wrong group");
    let silent = found_of(&minted(2040), &config(), "");
    assert_eq!(silent, [("k3s-key-unreadable", Level::Skipped, KEY.to_owned())]);
    // The role's default, which k3s keeps from all but root.
    let own = K3sConfig { ca: None, ..config() };
    let tree = minted(2040).mode("/var/lib/rancher/k3s/server", 0o700);
    assert_eq!(found_of(&tree, &own, &shipped()), error("k3s-ca-unreadable", OWN_CA));
}

#[test]
fn a_key_that_others_than_the_agents_can_read_is_an_error() {
    assert_eq!(found(&minted(2040).mode(KEY, 0o644)), error("k3s-key-open", KEY));
    // The agents read it by everybody's bits no more than the wrapper by its group's.
    let tree = minted(2040).owner(KEY, 0, 902);
    let said: Vec<_> = found(&tree).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(said, ["k3s-key-unreadable", "k3s-key-open"]);
}

#[test]
fn a_file_that_others_can_change_is_an_error() {
    let tree = minted(2040).mode(CA, 0o666);
    assert_eq!(found(&tree), error("k3s-file-writable", CA));
    let tree = minted(2040).owner(CERTIFICATE, 902, 902);
    assert_eq!(found(&tree), error("k3s-file-writable", CERTIFICATE));
}

#[test]
fn a_certificate_that_ended_is_an_error_and_one_about_to_end_a_warning() {
    assert_eq!(found(&minted(2029)), error("k3s-certificate-ended", CERTIFICATE));
    let soon = found(&minted(2030));
    assert_eq!(soon, [("k3s-certificate-ends", Level::Warning, CERTIFICATE.to_owned())]);
    assert_eq!(found(&minted(2040).file(CERTIFICATE, "")), error("k3s-certificate-bad", CERTIFICATE));
}

#[test]
fn two_that_do_not_fit_and_a_ca_that_is_not_k3s_own_are_errors() {
    let tree = minted(2040).file(CERTIFICATE, &certificate(2040).0);
    assert_eq!(found(&tree), error("k3s-key-other", CERTIFICATE));
    assert_eq!(found(&minted(2040).file(CA, &certificate(2040).0)), error("k3s-ca-other", CA));
    assert_eq!(found(&minted(2040).file(CA, "no certificate")), error("k3s-ca-bad", CA));
    // While a rotation is under way both count.
    let tree = minted(2040);
    let both = tree.node().read(CA).unwrap() + &certificate(2040).0;
    assert_eq!(found(&tree.file(CA, &both)), []);
}

#[test]
fn other_servers_that_an_agents_unit_keeps_it_from_are_a_warning() {
    let far =
        |others: &[&str]| K3sConfig { others: others.iter().map(|far| far.parse().unwrap()).collect(), ..config() };
    let blocked = [("k3s-others-blocked", Level::Warning, UNIT.to_owned())];
    let one = far(&["10.0.0.2:6443"]);
    assert_eq!(found_of(&minted(2040), &one, &shipped()), blocked);
    let allow = |more: &str| shipped().replace("IPAddressAllow=", &format!("IPAddressAllow={more} "));
    for enough in ["10.0.0.2/32", "10.0.0.2", "10.0.0.0/8", "0.0.0.0/0"] {
        assert_eq!(found_of(&minted(2040), &one, &allow(enough)), [], "{enough}");
    }
    for useless in ["10.0.0.3/32", "11.0.0.0/8", "::/0", "10.0.0.0/33", "nonsense"] {
        assert_eq!(found_of(&minted(2040), &one, &allow(useless)), blocked, "{useless}");
    }
    let six = far(&["[fd00::2]:6443"]);
    assert_eq!(found_of(&minted(2040), &six, &allow("10.0.0.0/8")), blocked);
    assert_eq!(found_of(&minted(2040), &six, &allow("fd00::/16")), []);
    let open = shipped().replace("IPAddressDeny=0.0.0.0/0 ::/0", "IPAddressDeny=");
    assert_eq!(found_of(&minted(2040), &one, &open), []);
}

proptest! {
    #[test]
    fn no_file_and_no_list_of_addresses_makes_the_reader_panic(text in any::<String>(), list in "[0-9a-f:./ ]{0,40}") {
        let _ = (blocks(&text), fit(&text, &text));
        for prefix in Prefix::list(&list) {
            let _ = prefix.contains(IpAddr::from([10, 0, 0, 1])) || prefix.contains(IpAddr::from([0u16; 8]));
        }
    }
}
