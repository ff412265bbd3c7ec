//! Reads the end of certificates. Whatever cannot be read is left out: nothing here is a verdict about trust.

use super::Certificate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::BasicConstraints;

/// Most certificates of one file that are read.
const MOST: usize = 32;

/// One certificate in DER. `None` when it is none.
pub(super) fn read(der: &[u8], place: &str) -> Option<Certificate> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let signed = certificate.tbs_certificate();
    let constraints = signed.get_extension::<BasicConstraints>().ok()?;
    Some(Certificate {
        place: place.to_owned(),
        is_ca: constraints.is_some_and(|(_, constraints)| constraints.ca),
        not_after: signed.validity().not_after.to_unix_duration().as_secs(),
    })
}

/// All certificates of a PEM file; its other sections are passed over.
pub(super) fn read_pem(pem: &[u8], place: &str) -> Vec<Certificate> {
    let sections = CertificateDer::pem_slice_iter(pem).take(MOST);
    sections.filter_map(|der| read(der.ok()?.as_ref(), place)).collect()
}

/// When each certificate of a PEM file ends, in seconds since 1970, in the file's order.
pub(crate) fn ends_of(pem: &[u8]) -> Vec<u64> {
    read_pem(pem, "").iter().map(|certificate| certificate.not_after).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::authority::{Authority, END};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_leaf_and_its_authority_are_told_apart() {
        let authority = Authority::new();
        let leaf = authority.leaf(&["127.0.0.1"]);
        let pem = format!("{}some words\n{}", leaf.pem, authority.pem);
        let read = read_pem(pem.as_bytes(), "here");
        assert_eq!(read.iter().map(|certificate| certificate.is_ca).collect::<Vec<_>>(), [false, true]);
        assert!(read.iter().all(|certificate| certificate.not_after == END && certificate.place == "here"));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_no_certificate_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(read(&bytes, "").is_none());
            let pem = [b"-----BEGIN CERTIFICATE-----\n".as_slice(), &bytes, b"\n-----END CERTIFICATE-----\n"].concat();
            prop_assert!(read_pem(&pem, "").is_empty());
        }

        #[test]
        fn a_certificate_with_one_byte_changed_is_read_or_not_but_never_a_panic(at in 0usize..400, byte in any::<u8>()) {
            let mut der = Authority::fixed().der.clone();
            let at = at % der.len();
            der[at] = byte;
            let _ = read(&der, "");
        }
    }
}
