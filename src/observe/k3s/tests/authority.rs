//! Certificate authorities like the one that k3s makes for itself.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::LazyLock;

/// When certificates end: the first of January 2096.
pub const END: u64 = 3_976_214_400;
/// When those end that have ended: the first of January 2021.
pub const PAST: u64 = 1_609_459_200;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub der: Vec<u8>,
}

#[derive(Clone)]
pub struct Leaf {
    pub pem: String,
    pub key_pem: String,
    pub chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Leaf {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
}

fn params(name: &str, hosts: &[&str], years: (i32, i32)) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params
}

impl Authority {
    /// A new one. All have the same name, as after `rotate-ca`.
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params("k3s-server-ca", &[], (2020, 2096));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// One for tests that need no other beside it.
    pub fn fixed() -> &'static Self {
        static FIXED: LazyLock<Authority> = LazyLock::new(Authority::new);
        &FIXED
    }

    /// A serving certificate for these names and addresses.
    pub fn leaf(&self, hosts: &[&str]) -> Leaf {
        self.leaf_of(hosts, (2020, 2096))
    }

    /// One that holds from the first of January of a year to that of another.
    pub fn leaf_of(&self, hosts: &[&str], years: (i32, i32)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params("k3s", hosts, years).signed_by(&key, &self.issuer).unwrap();
        Leaf {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key: key.serialize_der(),
        }
    }
}
