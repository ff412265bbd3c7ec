//! Lior's agent, compromised: it holds lior's real key and a genuine session, and says whatever it is told to say.

use crate::control::{ACTOR, Order, Report, Twist, socket};
use crate::twists::{another_run, twisted};
use crate::words;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use zeta_bft::clock;
use zeta_bft::config::paths::Paths;
use zeta_bft::config::{self, Settings};
use zeta_bft::grpc::MAX_MESSAGE;
use zeta_bft::grpc::client::connect;
use zeta_bft::keys;
use zeta_bft::protocol::evidence::FaultClass;
use zeta_bft::protocol::roster::Roster;
use zeta_bft::protocol::session::{VerifiedSession, verify_session};
use zeta_bft::protocol::signing::{Domain, SigningKey, VerifyingKey};
use zeta_bft::protocol::statement::{
    Choice, Envelope, EpisodeStatement, Header, Heartbeat, JournalHead, SessionRequest, Statement, Vote,
};
use zeta_bft::protocol::types::{Digest, Incarnation, Nonce, PersonaId, SubjectName, Timestamp};
use zeta_bft::up::parent::watch_parent;
use zeta_bft::wire::v1::peer_message::Message as PeerKind;
use zeta_bft::wire::v1::peer_service_client::PeerServiceClient;
use zeta_bft::wire::v1::submit_request::Submission;
use zeta_bft::wire::v1::warden_service_client::WardenServiceClient;
use zeta_bft::wire::{Proto, v1};

const AGAIN: Duration = Duration::from_millis(50);
const VOTES_EVERY: Duration = Duration::from_millis(100);
const HEARTBEAT: Duration = Duration::from_millis(250);
/// In a flood, so many statements so often to each of the three others; signed before, so that it is the others' time that
/// is spent.
const VOLLEY: usize = 40;
const VOLLEYS_EVERY: Duration = Duration::from_millis(10);
/// Statements between two new streams in a flood: a new stream might bring a new allowance.
const STREAM_EVERY: u64 = 500;

type Warden = WardenServiceClient<tonic::transport::Channel>;

/// What happens to the actor.
enum News {
    Episode(Box<EpisodeStatement>),
    SubmitEnded(u64),
    WardenLost,
    PeerUp(PersonaId, mpsc::Sender<v1::PeerMessage>),
    Heard(Envelope),
    Ordered(Order, oneshot::Sender<Report>),
}

/// Runs until `up` ends or the line to the warden breaks.
pub fn run(dir: &Path, parent: u32) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        tokio::select! {
            () = act(dir) => ExitCode::FAILURE,
            _ = terminate.recv() => ExitCode::SUCCESS,
            _ = watch_parent(Some(parent)) => ExitCode::SUCCESS,
        }
    })
}

async fn act(dir: &Path) {
    let paths = Paths::below(dir);
    let settings = config::load(&paths).unwrap();
    let roster = config::roster::load(&paths.roster(), &Proto).unwrap();
    let me = PersonaId::new(ACTOR).unwrap();
    let (tell, mut news) = mpsc::channel(1024);
    let key = keys::generate();
    let (warden, session) = open_session(&paths, &settings, &roster, &me, &key, &tell).await;

    let mut actor = Actor {
        settings,
        roster: roster.digest(),
        epoch: roster.epoch(),
        me,
        key,
        session,
        seq: 0,
        episodes: BTreeMap::new(),
        warden,
        submissions: mpsc::channel(1).0,
        stream: 0,
        tell: tell.clone(),
        peers: BTreeMap::new(),
        accused: BTreeMap::new(),
        false_runs: false,
        withholds: false,
        first_vote: None,
        signed: Vec::new(),
        heard: BTreeMap::new(),
        flood_until: Timestamp::ZERO,
        ammunition: Vec::new(),
        thrown: 0,
    };
    actor.open_stream();
    for peer in roster.members().map(|member| member.persona.clone()).filter(|peer| *peer != actor.me) {
        tokio::spawn(keep_dialled(paths.agent_socket(&peer), peer, tell.clone()));
    }
    tokio::spawn(listen(socket(dir), tell));

    let mut votes = tokio::time::interval(VOTES_EVERY);
    let mut heartbeats = tokio::time::interval(HEARTBEAT);
    let mut volleys = tokio::time::interval(VOLLEYS_EVERY);
    volleys.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(heard) = news.recv() => if !actor.take(heard) { return },
            _ = votes.tick() => actor.vote_on_the_accused(),
            _ = heartbeats.tick() => actor.heartbeat(),
            _ = volleys.tick(), if clock::now() < actor.flood_until => actor.throw(),
        }
    }
}

/// A genuine session, with lines for episodes and challenges.
async fn open_session(
    paths: &Paths,
    settings: &Settings,
    roster: &Roster,
    me: &PersonaId,
    key: &SigningKey,
    tell: &mpsc::Sender<News>,
) -> (Warden, VerifiedSession) {
    let persona_key = keys::load(&paths.persona_key(me)).unwrap();
    loop {
        match try_session(paths, settings, roster, me, key, &persona_key, tell).await {
            Ok(session) => return session,
            Err(why) => eprintln!("actor: no session yet: {why}"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn try_session(
    paths: &Paths,
    settings: &Settings,
    roster: &Roster,
    me: &PersonaId,
    key: &SigningKey,
    persona_key: &SigningKey,
    tell: &mpsc::Sender<News>,
) -> Result<(Warden, VerifiedSession), Box<dyn std::error::Error>> {
    let channel = connect(&paths.warden_socket()).await?.channel;
    let mut warden = WardenServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let nonce = warden.nonce(v1::NonceRequest {}).await?.into_inner().nonce;
    let request = SessionRequest {
        cluster: roster.cluster().clone(),
        node: roster.node().clone(),
        persona: me.clone(),
        session_key: key.public(),
        nonce: Nonce::from_slice(&nonce).ok_or("no nonce")?,
        roster: roster.digest(),
        policy: settings.policy.digest,
    };
    let request = Envelope::seal(&request, persona_key, &Proto);
    let opened = warden.open_session(v1::OpenSessionRequest { request: Some((&request).into()) }).await?;
    let session = Envelope::try_from(opened.into_inner().session.ok_or("no session")?)?;
    let session = verify_session(&session, roster, &Proto)?;

    let (replies, outgoing) = mpsc::channel(16);
    replies.send(v1::ChallengeReply { nonce: Vec::new() }).await?;
    let mut challenges = warden.challenge(ReceiverStream::new(outgoing)).await?.into_inner();
    tokio::spawn(async move {
        while let Ok(Some(challenge)) = challenges.message().await {
            let _ = replies.send(v1::ChallengeReply { nonce: challenge.nonce }).await;
        }
    });
    let mut episodes = warden.watch_episodes(v1::WatchEpisodesRequest {}).await?.into_inner();
    let key = VerifyingKey::new(roster.statement().warden)?;
    let tell = tell.clone();
    tokio::spawn(async move {
        while let Ok(Some(published)) = episodes.message().await {
            let envelope = published.statement.and_then(|statement| Envelope::try_from(statement).ok());
            if let Some(Ok(episode)) = envelope.map(|envelope| envelope.open::<EpisodeStatement>(&key, &Proto)) {
                let _ = tell.send(News::Episode(Box::new(episode.into_inner()))).await;
            }
        }
        let _ = tell.send(News::WardenLost).await;
    });
    Ok((warden, session))
}

/// Dials a peer, as lior must: of each pair, the one whose name comes first does.
async fn keep_dialled(socket: std::path::PathBuf, peer: PersonaId, tell: mpsc::Sender<News>) {
    loop {
        if let Ok(connection) = connect(&socket).await {
            let mut client = PeerServiceClient::new(connection.channel).max_decoding_message_size(MAX_MESSAGE);
            let (line, outgoing) = mpsc::channel(1024);
            let hello = PeerKind::Hello(v1::Hello { persona: ACTOR.to_owned() });
            let _ = line.send(v1::PeerMessage { message: Some(hello) }).await;
            if let Ok(incoming) = client.exchange(ReceiverStream::new(outgoing)).await {
                let mut incoming = incoming.into_inner();
                let _ = tell.send(News::PeerUp(peer.clone(), line)).await;
                while let Ok(Some(message)) = incoming.message().await {
                    if let Some(PeerKind::Statement(statement)) = message.message
                        && let Ok(envelope) = Envelope::try_from(statement)
                    {
                        let _ = tell.send(News::Heard(envelope)).await;
                    }
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Takes orders.
async fn listen(socket: std::path::PathBuf, tell: mpsc::Sender<News>) {
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let tell = tell.clone();
        tokio::spawn(async move {
            let (reading, mut writing) = stream.into_split();
            let mut lines = BufReader::new(reading).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let (answer, answered) = oneshot::channel();
                let _ = tell.send(News::Ordered(serde_json::from_str(&line).unwrap(), answer)).await;
                let Ok(report) = answered.await else { return };
                let _ = writing.write_all((serde_json::to_string(&report).unwrap() + "\n").as_bytes()).await;
            }
        });
    }
}

struct Actor {
    settings: Settings,
    roster: Digest,
    epoch: u64,
    me: PersonaId,
    key: SigningKey,
    session: VerifiedSession,
    seq: u64,
    episodes: BTreeMap<SubjectName, EpisodeStatement>,
    warden: Warden,
    submissions: mpsc::Sender<v1::SubmitRequest>,
    stream: u64,
    tell: mpsc::Sender<News>,
    peers: BTreeMap<PersonaId, mpsc::Sender<v1::PeerMessage>>,
    accused: BTreeMap<SubjectName, FaultClass>,
    false_runs: bool,
    withholds: bool,
    first_vote: Option<Vote>,
    signed: Vec<Envelope>,
    heard: BTreeMap<PersonaId, Vec<Envelope>>,
    flood_until: Timestamp,
    ammunition: Vec<Envelope>,
    thrown: u64,
}

impl Actor {
    /// Whether to go on.
    fn take(&mut self, news: News) -> bool {
        match news {
            News::Episode(episode) => {
                self.episodes.insert(episode.subject.clone(), *episode);
            }
            News::SubmitEnded(stream) => return stream != self.stream,
            News::WardenLost => return false,
            News::PeerUp(peer, line) => {
                let session = Some(PeerKind::Statement(self.session.envelope().into()));
                let _ = line.try_send(v1::PeerMessage { message: session });
                self.peers.insert(peer, line);
            }
            News::Heard(envelope) => self.hear(envelope),
            News::Ordered(order, answer) => {
                self.obey(order);
                let _ = answer.send(self.report());
            }
        }
        true
    }

    /// Keeps the votes of others.
    fn hear(&mut self, envelope: Envelope) {
        if envelope.domain != Domain::Vote {
            return;
        }
        let Ok(vote) = VerifyingKey::new(envelope.key).map(|key| envelope.open::<Vote>(&key, &Proto)) else { return };
        if let Ok(vote) = vote {
            self.heard.entry(vote.header.persona.clone()).or_default().push(envelope);
        }
    }

    fn report(&self) -> Report {
        Report {
            session: self.session.incarnation.to_string(),
            peers: self.peers.len(),
            signed: self.signed.len(),
            heard: self.heard.iter().map(|(voter, votes)| (voter.to_string(), votes.len())).collect(),
            thrown: self.thrown,
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Accuse { of, false_runs } => {
                let read = |(subject, class): (&String, &String)| {
                    (SubjectName::new(subject).unwrap(), FaultClass::from_word(class).unwrap())
                };
                self.accused = of.iter().map(read).collect();
                self.false_runs = false_runs;
                self.heartbeat();
                self.vote_on_the_accused();
            }
            Order::Withhold(withholds) => self.withholds = withholds,
            Order::Vote { on, class, twist } => {
                self.vote(&SubjectName::new(&on).unwrap(), FaultClass::from_word(&class).unwrap(), twist);
            }
            Order::Replay => {
                let votes: Vec<_> = self.signed.iter().chain(self.heard.values().flatten()).cloned().collect();
                votes.iter().for_each(|vote| self.to_warden(vote));
            }
            Order::SpeakTwice { apart } => {
                let mut said = self.words();
                let one = self.seal(&said);
                said.health += 1;
                let other = self.seal(&said);
                self.to_warden(&one);
                if apart {
                    self.to_peer("otto", &other);
                } else {
                    self.to_warden(&other);
                }
            }
            Order::Flood { millis } => {
                self.ammunition = self.arm();
                self.flood_until = clock::now() + Duration::from_millis(millis);
            }
            Order::Report => {}
        }
    }

    // ---- saying ----

    fn open_stream(&mut self) {
        self.stream += 1;
        let (submissions, outgoing) = mpsc::channel(1024);
        self.submissions = submissions;
        let (mut warden, tell, stream) = (self.warden.clone(), self.tell.clone(), self.stream);
        tokio::spawn(async move {
            if let Err(status) = warden.submit(ReceiverStream::new(outgoing)).await {
                eprintln!("actor: stream {stream} ended: {}", status.message());
            }
            let _ = tell.send(News::SubmitEnded(stream)).await;
        });
    }

    fn to_warden(&self, envelope: &Envelope) {
        let submission = Some(Submission::Statement(envelope.into()));
        let _ = self.submissions.try_send(v1::SubmitRequest { submission });
    }

    fn to_peer(&self, peer: &str, envelope: &Envelope) {
        if let Some(line) = self.peers.get(&PersonaId::new(peer).unwrap()) {
            let _ = line.try_send(v1::PeerMessage { message: Some(PeerKind::Statement(envelope.into())) });
        }
    }

    fn to_all(&self, envelope: &Envelope) {
        self.to_warden(envelope);
        self.peers.keys().for_each(|peer| self.to_peer(peer.as_str(), envelope));
    }

    fn header(&mut self) -> Header {
        self.seq += 1;
        Header {
            cluster: self.session.cluster.clone(),
            node: self.session.node.clone(),
            boot: self.session.boot,
            roster_epoch: self.epoch,
            roster: self.roster,
            policy: self.settings.policy.digest,
            persona: self.me.clone(),
            incarnation: self.session.incarnation,
            session_key: self.key.public(),
            seq: self.seq,
            observed_at: clock::now(),
        }
    }

    fn seal<T: Statement>(&self, statement: &T) -> Envelope
    where
        Proto: zeta_bft::protocol::statement::Codec<T>,
    {
        Envelope::seal(statement, &self.key, &Proto)
    }

    fn words(&mut self) -> Heartbeat {
        let header = self.header();
        let episodes: Vec<_> = self.episodes.values().cloned().collect();
        let attestations = episodes.iter().map(|episode| {
            let class = self.accused.get(&episode.subject).copied();
            words::attest(&episode.subject, self.run(episode), class, clock::now())
        });
        let attestations = attestations.collect();
        Heartbeat { header, attestations, health: 0, heads: Vec::new(), receipt: JournalHead::default() }
    }

    fn run(&self, episode: &EpisodeStatement) -> Incarnation {
        let accused = self.accused.contains_key(&episode.subject);
        if accused && self.false_runs { another_run(episode.incarnation) } else { episode.incarnation }
    }

    fn heartbeat(&mut self) {
        if !self.withholds {
            let words = self.words();
            self.to_all(&self.seal(&words));
        }
    }

    fn vote_on_the_accused(&mut self) {
        if self.withholds {
            return;
        }
        let twist = if self.false_runs { Twist::OtherRun } else { Twist::None };
        for (subject, class) in self.accused.clone() {
            self.vote(&subject, class, twist);
        }
    }

    fn vote(&mut self, subject: &SubjectName, class: FaultClass, twist: Twist) {
        if let Some(envelope) = self.sign_vote(subject, class, twist) {
            self.to_all(&envelope);
        }
    }

    fn sign_vote(&mut self, subject: &SubjectName, class: FaultClass, twist: Twist) -> Option<Envelope> {
        // Of a subject that does not exist, the first one's numbers are as good as any.
        let episode = self.episodes.get(subject).or_else(|| self.episodes.values().next()).cloned()?;
        let episode = EpisodeStatement { subject: subject.clone(), ..episode };
        let class = if twist == Twist::NotVotable { FaultClass::Environment } else { class };
        let mut vote = words::vote(self.header(), &episode, class, Choice::Approve);
        twisted(&mut vote, twist, self.first_vote.as_ref());
        let mut envelope = self.seal(&vote);
        if twist == Twist::ForgedSignature {
            envelope.signature[7] ^= 1;
        }
        if twist == Twist::None {
            self.first_vote.get_or_insert(vote);
            self.signed.push(envelope.clone());
        }
        Some(envelope)
    }

    /// Something of everything that costs the other side a signature check.
    fn arm(&mut self) -> Vec<Envelope> {
        let subjects: Vec<_> = self.episodes.keys().cloned().collect();
        let mut armed = Vec::new();
        for _ in 0..20 {
            for subject in &subjects {
                for twist in [Twist::OtherRound, Twist::OtherRun, Twist::ForgedSignature] {
                    armed.extend(self.sign_vote(subject, FaultClass::Crash, twist));
                }
            }
            let words = self.words();
            armed.push(self.seal(&words));
        }
        armed
    }

    fn throw(&mut self) {
        let begun = self.thrown;
        let volley: Vec<_> = self.ammunition.iter().take(VOLLEY).cloned().collect();
        self.ammunition.rotate_left(volley.len());
        for envelope in &volley {
            self.to_all(envelope);
            self.thrown += 3;
        }
        if begun / STREAM_EVERY != self.thrown / STREAM_EVERY {
            self.open_stream();
        }
    }
}
