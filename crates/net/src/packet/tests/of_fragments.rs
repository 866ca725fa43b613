//! Datagrams in pieces, in every order, and what is refused.

use super::*;

fn fragments() -> (Fragments, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Fragments::new(counters.clone()), counters)
}

/// A datagram in fragments of a size that the guest chose.
fn cut(six: bool, identification: u32, message: &[u8], step: usize) -> Vec<Vec<u8>> {
    let count = message.len().div_ceil(step);
    message
        .chunks(step)
        .enumerate()
        .map(|(index, piece)| piece_at(six, identification, index * step, index + 1 < count, piece))
        .collect()
}

fn piece_at(six: bool, identification: u32, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    if six {
        message.extend_from_slice(&[17, 0]);
        message.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
        message.extend_from_slice(&identification.to_be_bytes());
    }
    message.extend_from_slice(data);
    let protocol = if six { 44 } else { 17 };
    let pair = pair(six);
    let mut packet =
        Datagram { pair, protocol, hops: 64, identification, message: &message }.to_vec().unwrap();
    if !six {
        let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        packet[6..8].copy_from_slice(&field.to_be_bytes());
    }
    packet
}

fn add(fragments: &mut Fragments, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
    let packet = IpPacket::parse(packet).unwrap();
    assert!(packet.fragment);
    fragments.add(&packet, now)
}

#[test]
fn what_is_cut_by_the_gateway_is_whole_again() {
    for six in [false, true] {
        let (mut fragments, counters) = fragments();
        let payload: Vec<u8> = (0..65_507_u32).map(|index| (index * 7) as u8).collect();
        let message = udp_message(pair(six), &payload);
        let datagram =
            Datagram { pair: pair(six), protocol: 17, hops: 64, identification: 7, message: &message };
        let cut = packets(datagram);
        assert!(cut.len() == 2 && cut.iter().all(|packet| packet.len() <= MTU as usize));
        let now = Instant::now();
        assert_eq!(add(&mut fragments, &cut[1], now), None);
        let whole = add(&mut fragments, &cut[0], now).unwrap();
        let packet = IpPacket::parse(&whole).unwrap();
        assert!(!packet.fragment && packet.payload == message);
        assert_eq!(udp::Udp::parse(packet.payload).unwrap().payload, payload);
        assert!(counters.metrics().drops.is_empty());
    }
}

/// Any order, any size, doubled fragments: the datagram comes once and as it was.
#[test]
fn order_and_doubles_do_not_matter() {
    for (six, step) in [(false, 8), (true, 1232), (false, 1480), (true, 24)] {
        let (mut fragments, _) = fragments();
        let message = udp_message(pair(six), &[0x5a; 4000]);
        let mut pieces = cut(six, 9, &message, step);
        pieces.reverse();
        if pieces.len() > 1 {
            pieces.insert(1, pieces[0].clone());
        }
        let now = Instant::now();
        let done: Vec<_> = pieces.iter().filter_map(|piece| add(&mut fragments, piece, now)).collect();
        assert_eq!(done.len(), 1);
        assert_eq!(IpPacket::parse(&done[0]).unwrap().payload, message);
    }
}

#[test]
fn an_overlap_gives_the_datagram_away() {
    for six in [false, true] {
        let (mut fragments, counters) = fragments();
        let now = Instant::now();
        assert_eq!(add(&mut fragments, &piece_at(six, 1, 0, true, &[1; 64]), now), None);
        assert_eq!(add(&mut fragments, &piece_at(six, 1, 56, false, &[2; 64]), now), None);
        assert_eq!(counters.drops(Reason::FragmentOverlap), 1);
        assert_eq!(
            add(&mut fragments, &piece_at(six, 1, 64, false, &[2; 64]), now),
            None,
            "nothing was kept"
        );
        // Two ends.
        assert_eq!(add(&mut fragments, &piece_at(six, 2, 64, false, &[2; 64]), now), None);
        assert_eq!(add(&mut fragments, &piece_at(six, 2, 128, false, &[2; 8]), now), None);
        assert_eq!(counters.drops(Reason::FragmentOverlap), 2);
    }
}

#[test]
fn after_fifteen_seconds_the_rest_is_too_late() {
    let (mut fragments, counters) = fragments();
    let now = Instant::now();
    let pieces = cut(false, 1, &[3; 64], 32);
    assert_eq!(add(&mut fragments, &pieces[0], now), None);
    assert_eq!(add(&mut fragments, &pieces[1], now + Duration::from_secs(15)), None);
    assert_eq!(counters.drops(Reason::FragmentTimeout), 1);
}

#[test]
fn of_many_unfinished_datagrams_the_oldest_go() {
    let (mut fragments, counters) = fragments();
    let now = Instant::now();
    for identification in 0..1000 {
        // The largest offset: each holds nearly 64 KiB.
        assert_eq!(add(&mut fragments, &piece_at(true, identification, 65_528, true, &[]), now), None);
        assert_eq!(add(&mut fragments, &piece_at(true, identification, 65_520, false, &[0; 15]), now), None);
    }
    assert_eq!(counters.drops(Reason::FragmentLimit), 984);
    assert_eq!(counters.drops(Reason::Malformed), 1000);
    let begin = piece_at(true, 999, 0, true, &vec![0; 65_400]);
    assert_eq!(add(&mut fragments, &begin, now), None);
    let rest = piece_at(true, 999, 65_400, true, &[0; 120]);
    assert_eq!(add(&mut fragments, &rest, now).unwrap().len(), 40 + 65_535);
}

#[test]
fn longer_than_ip_can_say_is_refused() {
    let (mut fragments, counters) = fragments();
    let now = Instant::now();
    assert_eq!(add(&mut fragments, &piece_at(false, 1, 65_512, false, &[0; 8]), now), None);
    assert_eq!(add(&mut fragments, &piece_at(true, 1, 65_528, false, &[0; 8]), now), None);
    assert_eq!(counters.drops(Reason::TooBig), 2);
}

proptest! {
    #[test]
    fn no_order_of_any_fragments_is_a_panic(
        pieces in prop::collection::vec((any::<bool>(), 0_u32..3, 0_usize..8192, any::<bool>(), 0_usize..64), 0..200)
    ) {
        let (mut fragments, _) = fragments();
        let now = Instant::now();
        for (six, identification, unit, more, length) in pieces {
            let offset = unit * 8 % 65_536;
            let length = if more { length * 8 } else { length };
            let packet = piece_at(six, identification, offset, more, &vec![1; length]);
            let parsed = IpPacket::parse(&packet).unwrap();
            if parsed.fragment && let Some(whole) = fragments.add(&parsed, now) {
                prop_assert!(!IpPacket::parse(&whole).unwrap().fragment);
            }
        }
    }

    #[test]
    fn every_cut_is_whole_again(six: bool, length in 1_usize..4000, step in 1_usize..60, seed: u64) {
        let (mut fragments, _) = fragments();
        let message: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let mut pieces = cut(six, 3, &message, step * 8);
        prop_assume!(pieces.len() > 1);
        prop_assume!(pieces.len() <= 200);
        let count = pieces.len();
        for index in 0..count {
            pieces.swap(index, (seed as usize).wrapping_mul(index + 7) % count);
        }
        let now = Instant::now();
        let done: Vec<_> = pieces.iter().filter_map(|piece| add(&mut fragments, piece, now)).collect();
        prop_assert_eq!(done.len(), 1);
        prop_assert_eq!(IpPacket::parse(&done[0]).unwrap().payload, &message[..]);
    }
}
