//! What a client says in clear before keys are exchanged: its identification and its ciphers.
//!
//! russh tells a server neither before a login; the live view shows both from the first moment. Reads
//! only what comes before encryption, at most 64 KiB, and judges nothing: a peer that breaks the
//! protocol here is russh's business. RFC 4253, sections 4.2 and 7.1.

/// How much is looked at.
const MOST: usize = 64 * 1024;
/// SSH_MSG_KEXINIT.
const KEXINIT: u8 = 20;

/// What was learnt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// The client's identification line, without its end.
    Ident(Vec<u8>),
    /// The ciphers it offers for what it sends, in its order.
    Ciphers(Vec<String>),
}

/// Reads the beginning of a connection.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    buf: Vec<u8>,
    ident: bool,
}

impl Greeting {
    /// Takes what arrived; tells what it learnt, and `false` once there is nothing more to learn.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut learnt: impl FnMut(Learnt)) -> bool {
        let room = MOST.saturating_sub(self.buf.len());
        self.buf.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        if !self.ident {
            let Some(end) = self.buf.iter().position(|b| *b == b'\n') else { return self.buf.len() < MOST };
            let mut line: Vec<u8> = self.buf.drain(..=end).collect();
            while matches!(line.last(), Some(b'\r' | b'\n')) {
                line.pop();
            }
            self.ident = true;
            learnt(Learnt::Ident(line));
        }
        match ciphers(&self.buf) {
            Found::Ciphers(names) => {
                learnt(Learnt::Ciphers(names));
                false
            }
            Found::Nothing => false,
            Found::TooShort => self.buf.len() < MOST,
        }
    }
}

enum Found {
    Ciphers(Vec<String>),
    Nothing,
    TooShort,
}

fn ciphers(buf: &[u8]) -> Found {
    let Some((header, rest)) = buf.split_first_chunk::<4>() else { return Found::TooShort };
    let len = u32::from_be_bytes(*header) as usize;
    if len > MOST {
        return Found::Nothing;
    }
    let Some(packet) = rest.get(..len) else { return Found::TooShort };
    // Padding length, message number, cookie; then lists: key exchange, host keys, ciphers.
    if packet.get(1) != Some(&KEXINIT) {
        return Found::Nothing;
    }
    let mut lists = packet.get(18..).unwrap_or_default();
    let mut third = &[][..];
    for _ in 0..3 {
        let Some((header, rest)) = lists.split_first_chunk::<4>() else { return Found::Nothing };
        let len = u32::from_be_bytes(*header) as usize;
        let (Some(list), Some(rest)) = (rest.get(..len), rest.get(len..)) else { return Found::Nothing };
        third = list;
        lists = rest;
    }
    Found::Ciphers(third.split(|b| *b == b',').map(|n| String::from_utf8_lossy(n).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kexinit(lists: &[&str]) -> Vec<u8> {
        let mut payload = vec![4, KEXINIT];
        payload.extend([9; 16]);
        for l in lists {
            payload.extend((l.len() as u32).to_be_bytes());
            payload.extend(l.as_bytes());
        }
        payload.extend([0; 4]);
        let mut packet = (payload.len() as u32).to_be_bytes().to_vec();
        packet.extend(payload);
        packet
    }

    #[test]
    fn learns_both_however_the_bytes_are_cut() {
        let mut bytes = b"SSH-2.0-Test me\r\n".to_vec();
        bytes.extend(kexinit(&["kex", "ssh-ed25519", "aes128-gcm@openssh.com,aes128-ctr", "x"]));
        for step in 1..bytes.len() {
            let mut greeting = Greeting::default();
            let mut all = Vec::new();
            let mut more = true;
            for chunk in bytes.chunks(step) {
                if more {
                    more = greeting.feed(chunk, |l| all.push(l));
                }
            }
            assert!(!more);
            assert_eq!(
                all,
                [
                    Learnt::Ident(b"SSH-2.0-Test me".to_vec()),
                    Learnt::Ciphers(vec!["aes128-gcm@openssh.com".into(), "aes128-ctr".into()]),
                ]
            );
        }
    }

    #[test]
    fn nonsense_teaches_nothing_and_is_bounded() {
        let mut greeting = Greeting::default();
        let mut more = true;
        for _ in 0..100 {
            more = more && greeting.feed(&[b'x'; 4096], |_| panic!());
        }
        assert!(!more && greeting.buf.len() <= MOST);
        let mut greeting = Greeting::default();
        let mut n = 0;
        assert!(!greeting.feed(b"hello\n\xff\xff\xff\xff", |_| n += 1));
        assert_eq!(n, 1);
    }
}
