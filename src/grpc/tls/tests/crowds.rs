//! Many at the door: who gives way, and who does not.

use super::*;
use crate::grpc::tls::HANDSHAKES;
use crate::grpc::tls::server::UnderWay;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::net::TcpSocket;

#[tokio::test]
async fn handshakes_that_never_end_keep_nobody_else_out_and_are_ended() {
    let node = Node::new();
    let mut otto = node.serve("otto").await;
    let mut hoard = Vec::new();
    for _ in 0..2 * HANDSHAKES {
        hoard.push(TcpStream::connect(otto.address).await.unwrap());
    }
    let began = clock::now();
    let lior = node.identity("lior");
    let (channel, _) = lior.connect(otto.address, Wanted::AnyAgent).await.unwrap();
    call(&channel).await.unwrap();
    let took = clock::now().saturating_since(began);
    assert!(took < Duration::from_secs(1), "it waited {took:?} for those who are slow");
    let mut slow = 0;
    let mut welcome = 0;
    while slow < 2 * HANDSHAKES {
        match otto.outcome().await {
            Outcome::Slow => slow += 1,
            Outcome::Welcome => welcome += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(welcome, 1);
    let mut byte = [0];
    for mut slow in hoard {
        assert!(matches!(slow.read(&mut byte).await, Ok(0) | Err(_)), "it is hung up on");
    }
    call(&channel).await.unwrap();
}

/// A connection from an address of our choice, as anybody on the node has all of 127.0.0.0/8.
async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn a_stranger_with_many_addresses_ends_its_own_handshakes_and_nobody_elses() {
    // Over the wire: the honest one's address is the highest, its handshake the youngest.
    let node = Node::new();
    let mut otto = node.serve("otto").await;
    let strange = |last: usize| Ipv4Addr::new(127, 0, 0, u8::try_from(last + 2).unwrap());
    let mut hoard = Vec::new();
    for last in 0..HANDSHAKES - 1 {
        hoard.push(connect_from(strange(last), otto.address).await);
    }
    let honest = connect_from(Ipv4Addr::new(127, 0, 0, 250), otto.address).await;
    for last in HANDSHAKES..HANDSHAKES + 32 {
        hoard.push(connect_from(strange(last), otto.address).await);
        assert_eq!(otto.outcome().await, Outcome::Slow, "one gives way for each");
    }
    let pem = node.certificate("lior", &node.ca, Validity::lasting(LEAF_LIFE));
    let lior = tokio_rustls::TlsConnector::from(Arc::new(client(Some((&node.key("lior"), &pem)), ONLY_13)));
    let _stream = lior.connect(ServerName::try_from("localhost").unwrap(), honest).await.unwrap();
    assert_eq!(otto.outcome().await, Outcome::Welcome);

    // Who has a network of its own keeps out nobody of another, however many it opens.
    let crowds: [fn(u128) -> IpAddr; 3] = [
        |n| Ipv4Addr::from_bits(0x7f00_0001 + u32::try_from(n).unwrap()).into(),
        |n| Ipv4Addr::from_bits(0x7f00_0001 + u32::try_from(n).unwrap()).to_ipv6_mapped().into(),
        |n| Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + n).into(),
    ];
    for crowd in crowds {
        for honest in ["10.0.0.9", "200.0.0.9", "2001:db8:0:1::9"] {
            let (mut under_way, honest) = (UnderWay::default(), honest.parse::<IpAddr>().unwrap());
            // It dials two at once: still no crowd.
            (0..2).for_each(|_| under_way.begin(honest, std::future::pending()));
            for n in 0..10 * HANDSHAKES {
                let ended = under_way.give_way();
                assert_eq!(ended.is_some(), n + 2 >= HANDSHAKES);
                assert!(ended.is_none_or(|ended| ended != honest), "{honest} among a crowd as {}", crowd(1));
                under_way.begin(crowd(n as u128), std::future::pending());
            }
        }
    }

    // And where every address is another's, the oldest ends.
    let mut under_way = UnderWay::default();
    let address = |n: usize| IpAddr::from([10, 0, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()]);
    for n in 0..4 * HANDSHAKES {
        assert_eq!(under_way.give_way(), n.checked_sub(HANDSHAKES).map(address));
        under_way.begin(address(n), std::future::pending());
    }
}

#[tokio::test]
async fn one_holder_has_so_many_connections_and_leaves_the_others_theirs() {
    let node = Node::new();
    let mut otto = node.serve("otto").await;
    let (lior, mut open) = (node.identity("lior"), Vec::new());
    loop {
        let connected = lior.connect(otto.address, Wanted::AnyAgent).await;
        match otto.outcome().await {
            Outcome::Welcome => open.push(connected.unwrap().0),
            Outcome::Crowded => {
                assert!(matches!(connected, Err(ConnectError::NotTrusted { .. })), "{connected:?}");
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(open.len() < 1000);
    }
    assert_eq!(open.len(), crate::grpc::limits::Guests::<Holder>::OF_ONE_USER);
    let (channel, _) = node.identity("vera").connect(otto.address, Wanted::AnyAgent).await.unwrap();
    call(&channel).await.unwrap();
}
