//! What a look shows, one number for each thing that is looked at: the `check` label of `zeta_bft_k3s_probe`.

use super::{Look, Probe};
use crate::protocol::evidence::closed_set;

closed_set!(
    /// One thing that is looked at.
    Check {
        /// The supervisor.
        Ping = "ping",
        /// The API server's liveness.
        Livez = "livez",
        /// The API server's readiness.
        Readyz = "readyz",
        /// The kubelet's health port.
        Kubelet = "kubelet",
        /// kube-proxy's health port.
        KubeProxy = "kube_proxy",
        /// The node's Ready condition.
        NodeReady = "node_ready",
        /// No certificate has ended.
        Certificates = "certificates",
        /// No key or certificate of the agent's is empty.
        KeyFiles = "key_files",
        /// Somebody keeps the clock.
        Clock = "clock",
    }
);

impl Check {
    /// Whether it is well; `None`: not to be told.
    pub fn of(self, look: &Look) -> Option<bool> {
        let probe = |probe: &Probe| match probe {
            Probe::Status { code: 401 | 403 | 404, .. } | Probe::Off | Probe::Stranger | Probe::Unable(_) => None,
            Probe::Status { .. } | Probe::Refused | Probe::TimedOut => Some(probe.is_ok()),
        };
        match self {
            Self::Ping => probe(&look.ping),
            Self::Livez => probe(&look.livez),
            Self::Readyz => probe(&look.readyz),
            Self::Kubelet => probe(&look.kubelet),
            Self::KubeProxy => probe(&look.kube_proxy),
            Self::NodeReady => look.node_ready,
            Self::Certificates if look.certificates.is_empty() => None,
            Self::Certificates => Some(look.certificates.iter().all(|certificate| certificate.not_after > look.unix)),
            // Who could read no folder found no empty file in it either.
            Self::KeyFiles => (!look.mounts.is_empty()).then_some(look.empty_files.is_empty()),
            Self::Clock => look.clock_synchronised,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::k3s::classify::tests::bench::well;

    #[test]
    fn an_answer_that_tells_nothing_is_neither_well_nor_unwell() {
        let ping = |code| Look { ping: Probe::Status { code, said: String::new() }, ..well() };
        for (code, shown) in
            [(200, Some(true)), (401, None), (403, None), (404, None), (429, Some(false)), (500, Some(false))]
        {
            assert_eq!(Check::Ping.of(&ping(code)), shown, "{code}");
        }
    }
}
