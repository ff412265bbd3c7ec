//! What a vote is made wrong in, one thing at a time.

use crate::control::Twist;
use crate::words::attest;
use std::time::Duration;
use zeta_bft::protocol::statement::Vote;
use zeta_bft::protocol::types::{
    BootId, ClusterId, Incarnation, InvocationId, NodeId, Nonce, PersonaId, SessionIncarnation,
};

/// A run of the same boot that does not exist.
pub fn another_run(of: Incarnation) -> Incarnation {
    Incarnation { invocation: InvocationId([0xab; 16]), ..of }
}

/// Makes one thing wrong in a vote. `earlier`: the first vote ever signed.
pub fn twisted(vote: &mut Vote, twist: Twist, earlier: Option<&Vote>) {
    let Vote { header, attestation, .. } = vote;
    let hour = Duration::from_secs(3600);
    match twist {
        Twist::OtherCluster => header.cluster = ClusterId::new("elsewhere").unwrap(),
        Twist::OtherNode => header.node = NodeId::new("elsewhere").unwrap(),
        Twist::OtherBoot => header.boot = BootId([0xab; 16]),
        Twist::OtherAuthor => header.persona = PersonaId::new("otto").unwrap(),
        Twist::EndedSession => header.incarnation = SessionIncarnation(header.incarnation.0 - 1),
        Twist::Earlier => {
            let header = header.clone();
            *vote = earlier.expect("there was an earlier one").clone();
            vote.header = header;
        }
        Twist::OtherRound => vote.round.0 += 1,
        Twist::OtherNonce => vote.nonce = Nonce([0xab; 16]),
        Twist::OtherRun => {
            vote.incarnation = another_run(vote.incarnation);
            attestation.incarnation = vote.incarnation;
        }
        Twist::OtherBootOfSubject => {
            vote.incarnation.boot = BootId([0xab; 16]);
            attestation.incarnation = vote.incarnation;
        }
        Twist::OtherRung => vote.rung.0 += 1,
        Twist::OtherSetEpoch => vote.set_epoch.0 += 1,
        Twist::OldObservation => {
            attestation.observed_at = attestation.observed_at - Duration::from_secs(3);
            header.observed_at = attestation.observed_at;
        }
        Twist::FutureObservation => {
            attestation.observed_at = attestation.observed_at + hour;
            header.observed_at = attestation.observed_at;
        }
        Twist::TwoTimes => header.observed_at = header.observed_at + hour,
        Twist::Unsupported => {
            *attestation = attest(&attestation.subject, attestation.incarnation, None, header.observed_at)
        }
        Twist::NotVotable | Twist::ForgedSignature | Twist::None => {}
    }
}
