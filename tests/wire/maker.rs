//! Arbitrary statements.

use std::time::Duration;
use zeta_bft::protocol::evidence::{Attestation, Evidence, FaultClass, Reason, TickEnd, TickState, Verdict};
use zeta_bft::protocol::record::{Forgiveness, LedgerEntry, OperatorOrder, Record};
use zeta_bft::protocol::roster::{Member, RosterStatement};
use zeta_bft::protocol::signing::Domain;
use zeta_bft::protocol::statement::{
    ActionCertificate, ActionKind, Choice, Envelope, EpisodeStatement, EquivocationProof, Head, Header, Heartbeat,
    JournalHead, Outcome, Receipt, ReceiptKind, Session, SessionRequest, StateName, Vote,
};
use zeta_bft::protocol::types::{
    BootId, ClusterId, Digest, EpisodeId, Incarnation, InvocationId, NodeId, Nonce, PersonaId, PublicKey, Round, Rung,
    SessionIncarnation, SetEpoch, SubjectName, Timestamp, VendorId, WardenInstance,
};

/// Makes them from a seed (SplitMix64, so that fixtures never move with a library).
pub struct Maker(pub u64);

impl Maker {
    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn u32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }
    fn below(&mut self, n: usize) -> usize {
        (self.u64() % n as u64) as usize
    }
    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u64() as u8)
    }
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.u64() & 1 == 0).then(|| make(self))
    }
    fn many<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }
    fn label(&mut self) -> String {
        format!("n{:x}", self.u64())
    }
    fn text(&mut self) -> String {
        self.many(40, |m| char::from_u32(m.u32() % 0x300).unwrap_or('x')).into_iter().collect()
    }
    fn persona(&mut self) -> PersonaId {
        PersonaId::new(&self.label()).unwrap()
    }
    fn cluster(&mut self) -> ClusterId {
        ClusterId::new(&self.label()).unwrap()
    }
    fn node(&mut self) -> NodeId {
        NodeId::new(&self.label()).unwrap()
    }
    fn subject(&mut self) -> SubjectName {
        let persona = self.persona();
        if self.u64() & 1 == 0 { SubjectName::agent(&persona) } else { SubjectName::wrapper(&persona) }
    }
    pub fn digest(&mut self) -> Digest {
        Digest(self.array())
    }
    fn key(&mut self) -> PublicKey {
        PublicKey(self.array())
    }
    fn nonce(&mut self) -> Nonce {
        Nonce(self.array())
    }
    fn time(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.u64())
    }
    fn duration(&mut self) -> Duration {
        Duration::from_nanos(self.u64())
    }
    fn incarnation(&mut self) -> Incarnation {
        Incarnation { boot: BootId(self.array()), invocation: InvocationId(self.array()) }
    }
    pub fn envelope(&mut self, domain: Domain) -> Envelope {
        let mut payload = self.many(300, |m| m.u64() as u8);
        payload.push(1);
        Envelope { domain, payload: payload.into(), signature: self.array(), key: self.key() }
    }
    pub fn proof(&mut self) -> EquivocationProof {
        EquivocationProof {
            session: self.envelope(Domain::Session),
            first: self.envelope(Domain::Vote),
            second: self.envelope(Domain::Heartbeat),
        }
    }
    pub fn header(&mut self) -> Header {
        Header {
            cluster: self.cluster(),
            node: self.node(),
            boot: BootId(self.array()),
            roster_epoch: self.u64(),
            roster: self.digest(),
            policy: self.digest(),
            persona: self.persona(),
            incarnation: SessionIncarnation(self.u64()),
            session_key: self.key(),
            seq: self.u64(),
            observed_at: self.time(),
        }
    }
    pub fn attestation(&mut self) -> Attestation {
        let verdict = self.pick(Verdict::ALL);
        let class = self.pick(FaultClass::ALL);
        Attestation {
            subject: self.subject(),
            incarnation: self.incarnation(),
            verdict,
            class: if verdict == Verdict::Down { Some(class) } else { self.maybe(|_| class) },
            evidence: self.pick(Evidence::ALL),
            reason: self.pick(Reason::ALL),
            observation: self.digest(),
            observed_at: self.time(),
            resume_at: self.maybe(Self::u64),
        }
    }
    pub fn request(&mut self) -> SessionRequest {
        SessionRequest {
            cluster: self.cluster(),
            node: self.node(),
            persona: self.persona(),
            session_key: self.key(),
            nonce: self.nonce(),
            roster: self.digest(),
            policy: self.digest(),
        }
    }
    pub fn session(&mut self) -> Session {
        Session {
            request: self.envelope(Domain::SessionRequest),
            cluster: self.cluster(),
            node: self.node(),
            boot: BootId(self.array()),
            persona: self.persona(),
            session_key: self.key(),
            incarnation: SessionIncarnation(self.u64()),
            uid: self.u32(),
            unit: self.subject(),
            invocation: InvocationId(self.array()),
        }
    }
    pub fn heartbeat(&mut self) -> Heartbeat {
        let mut attestations = self.many(6, Self::attestation);
        attestations.sort_by(|a, b| a.subject.cmp(&b.subject));
        Heartbeat {
            header: self.header(),
            attestations,
            health: self.u32(),
            heads: self.many(4, Self::heartbeat_head),
            receipt: JournalHead { seq: self.u64(), hash: self.digest() },
        }
    }
    pub fn heartbeat_head(&mut self) -> Head {
        Head { persona: self.persona(), session_key: self.key(), seq: self.u64(), digest: self.digest() }
    }
    pub fn episode(&mut self) -> EpisodeStatement {
        EpisodeStatement {
            cluster: self.cluster(),
            node: self.node(),
            boot: BootId(self.array()),
            roster: self.digest(),
            policy: self.digest(),
            subject: self.subject(),
            id: EpisodeId(self.u64()),
            round: Round(self.u32()),
            nonce: self.nonce(),
            set_epoch: SetEpoch(self.u64()),
            incarnation: self.incarnation(),
            rung: Rung(self.u32()),
            state: self.pick(StateName::ALL),
            challenge: self.maybe(Self::nonce),
            budget: self.u32(),
        }
    }
    pub fn vote(&mut self) -> Vote {
        Vote {
            header: self.header(),
            episode: EpisodeId(self.u64()),
            round: Round(self.u32()),
            nonce: self.nonce(),
            set_epoch: SetEpoch(self.u64()),
            subject: self.subject(),
            incarnation: self.incarnation(),
            rung: Rung(self.u32()),
            class: self.pick(&[FaultClass::Crash, FaultClass::Hang, FaultClass::Broken]),
            choice: self.pick(Choice::ALL),
            challenge: self.maybe(Self::nonce),
            attestation: self.attestation(),
        }
    }
    pub fn receipt(&mut self) -> Receipt {
        Receipt {
            cluster: self.cluster(),
            node: self.node(),
            boot: BootId(self.array()),
            warden: WardenInstance(self.u32()),
            seq: self.u64(),
            previous: self.digest(),
            kind: self.pick(ReceiptKind::ALL),
            episode: EpisodeId(self.u64()),
            round: Round(self.u32()),
            rung: Rung(self.u32()),
            subject: self.subject(),
            action: self.pick(ActionKind::ALL),
            class: self.pick(FaultClass::ALL),
            before: self.incarnation(),
            after: self.maybe(Self::incarnation),
            outcome: self.maybe(|m| m.pick(Outcome::ALL)),
            detail: self.text(),
            certificate: self.maybe(|m| ActionCertificate {
                episode: m.envelope(Domain::Episode),
                votes: m.many(3, |m| m.envelope(Domain::Vote)),
                sessions: m.many(3, |m| m.envelope(Domain::Session)),
            }),
            intent: self.maybe(Self::u64),
            at: self.time(),
            wall_ms: self.u64(),
        }
    }
    pub fn roster(&mut self) -> RosterStatement {
        RosterStatement {
            cluster: self.cluster(),
            node: self.node(),
            epoch: self.u64(),
            previous: self.digest(),
            members: self.many(5, |m| Member {
                persona: m.persona(),
                vendor: VendorId::new(&m.label()).unwrap(),
                key: m.key(),
            }),
            f: self.u32(),
            q: self.u32(),
            warden: self.key(),
            operator: self.key(),
        }
    }
    pub fn records(&mut self) -> Vec<Record> {
        let orders = [
            OperatorOrder::Hold { subject: self.maybe(Self::subject), until: self.maybe(Self::u64) },
            OperatorOrder::Release { subject: self.maybe(Self::subject) },
            OperatorOrder::Approve { episode: EpisodeId(self.u64()) },
            OperatorOrder::Readmit { persona: self.persona() },
        ];
        let mut records = vec![
            Record::Boot { instance: WardenInstance(self.u32()), boot: BootId(self.array()), at: self.time() },
            Record::Receipt(self.envelope(Domain::Receipt)),
            Record::Ledger(LedgerEntry {
                subject: self.maybe(Self::subject),
                tokens: self.u32(),
                spent_today: self.u32(),
                day_began: self.duration(),
                accumulated: self.duration(),
                rung: Rung(self.u32()),
                cool_down: self.duration(),
                cool_down_from: self.duration(),
                exhausted: self.u64() & 1 == 0,
                // Not from the same numbers: what comes after keeps its bytes.
                tried: Maker(self.0 ^ 1).u32(),
            }),
            Record::Quarantine { persona: self.persona(), proof: self.proof() },
            Record::Roster(self.envelope(Domain::Roster)),
            Record::Head(self.envelope(Domain::JournalHead)),
        ];
        records.extend(orders.map(|order| Record::Operator {
            uid: self.u32(),
            order,
            reason: self.text(),
            wall: self.u64(),
            // Not from the same numbers: what comes after keeps its bytes.
            forgiveness: Maker(self.0 ^ 2).maybe(|m| Forgiveness {
                before: SessionIncarnation(m.u64()),
                burnt: m.maybe(Self::key),
                answered: m.maybe(Self::key),
            }),
        }));
        records
    }
    pub fn ticks(&mut self) -> TickState {
        TickState {
            begun: self.u64(),
            running_since: self.maybe(Self::time),
            broken_in_a_row: self.u32(),
            last: self.maybe(|m| TickEnd {
                number: m.u64(),
                began_at: m.time(),
                duration: m.duration(),
                exit_code: m.maybe(|m| m.u32() as i32),
                signal: m.maybe(|m| m.u32() as i32),
                fault: m.maybe(|m| m.pick(&[FaultClass::Broken, FaultClass::Environment])),
                reason: m.pick(Reason::ALL),
                resume_at: m.maybe(Self::u64),
            }),
            last_good_at: self.maybe(Self::time),
            interval: self.duration(),
        }
    }
}
