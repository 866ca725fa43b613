//! ClientHellos for tests, put together by hand.

/// A ClientHello's message with these extensions.
pub(crate) fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(sized1(&[9; 32]));
    // A cipher suite that does not exist (GREASE, RFC 8701), and two that do.
    body.extend(sized2(&[0x5a, 0x5a, 0x13, 0x01, 0x13, 0x02]));
    body.extend(sized1(&[0]));
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, content)| [kind.to_be_bytes().to_vec(), sized2(content)].concat())
        .collect();
    body.extend(sized2(&list));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1, length[1], length[2], length[3]], &*body].concat()
}

/// The extension with a server's name.
pub(crate) fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    (0, sized2(&[&[0], &*sized2(name)].concat()))
}

/// What browsers send besides: GREASE, a random Encrypted Client Hello, a large key share, padding.
pub(crate) fn browser() -> Vec<(u16, Vec<u8>)> {
    vec![(0x3a3a, vec![]), (0xfe0d, vec![0; 250]), (51, vec![3; 1300]), (0x0a0a, vec![0]), (21, vec![0; 100])]
}

/// A message in records of at most `most` bytes.
pub(crate) fn records(message: &[u8], most: usize) -> Vec<u8> {
    message.chunks(most).flat_map(|part| [&[22, 3, 1], &*sized2(part)].concat()).collect()
}

/// An ordinary ClientHello for a name.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let extensions = [browser(), vec![server_name(name.as_bytes())]].concat();
    records(&message(&extensions), 1 << 14)
}

pub(crate) fn sized1(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

pub(crate) fn sized2(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
