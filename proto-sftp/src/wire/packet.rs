//! Packets as values: requests (draft section 6) and replies (section 7), both directions.
//!
//! A client decodes [`FromServer`] and encodes [`Request`]; a server decodes [`FromClient`] and encodes
//! [`Reply`]. Bulk content can travel beside its packet: [`Request::encode_write_header`] and
//! [`data_header`] write all but the content.
//!
//! SYMLINK's two paths are in OpenSSH's order (target first), which every peer follows by now, not in
//! the draft's.

use bytes::{Bytes, BytesMut};
use russh_sftp::protocol::OpenFlags;

use super::attrs::Attrs;
use super::codec::{Frame, Malformed, Reader};
use super::extension::Extended;

/// The version spoken.
pub const VERSION: u32 = 3;

/// Packet types.
pub mod kind {
    #![allow(missing_docs)] // the draft's names say it
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// The client's greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The highest version the client speaks.
    pub version: u32,
    /// Extension pairs.
    pub extensions: Vec<(Bytes, Bytes)>,
}

/// The server's greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version both will speak.
    pub version: u32,
    /// Extension pairs.
    pub extensions: Vec<(Bytes, Bytes)>,
}

/// What a client asks for. Handles and paths are bytes as sent.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // fields are the draft's
pub enum Request {
    Close {
        handle: Bytes,
    },
    Extended(Extended),
    Fsetstat {
        handle: Bytes,
        attrs: Attrs,
    },
    Fstat {
        handle: Bytes,
    },
    Lstat {
        path: Bytes,
    },
    Mkdir {
        path: Bytes,
        attrs: Attrs,
    },
    Open {
        path: Bytes,
        flags: u32,
        attrs: Attrs,
    },
    Opendir {
        path: Bytes,
    },
    Read {
        handle: Bytes,
        offset: u64,
        len: u32,
    },
    Readdir {
        handle: Bytes,
    },
    Readlink {
        path: Bytes,
    },
    Realpath {
        path: Bytes,
    },
    Remove {
        path: Bytes,
    },
    Rename {
        from: Bytes,
        to: Bytes,
    },
    Rmdir {
        path: Bytes,
    },
    Setstat {
        path: Bytes,
        attrs: Attrs,
    },
    Stat {
        path: Bytes,
    },
    Symlink {
        target: Bytes,
        link: Bytes,
    },
    /// A packet type that version 3 does not have.
    Unknown {
        kind: u8,
        body: Bytes,
    },
    Write {
        handle: Bytes,
        offset: u64,
        data: Bytes,
    },
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // fields are the draft's
pub enum Reply {
    Attrs(Attrs),
    Data(Bytes),
    Extended(Bytes),
    Handle(Bytes),
    Name(Vec<Name>),
    Status { code: u32, message: Bytes, language: Bytes },
}

/// One entry of a NAME reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// The name; of REALPATH and READLINK, the path.
    pub name: Bytes,
    /// The line for people.
    pub longname: Bytes,
    /// What it is.
    pub attrs: Attrs,
}

/// A packet that a server receives.
#[derive(Clone, Debug, PartialEq)]
pub enum FromClient {
    /// The greeting.
    Init(Init),
    /// A request with its id.
    Request(u32, Request),
}

/// A packet that a client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromServer {
    /// The greeting.
    Version(Version),
    /// A reply with the id of its request.
    Reply(u32, Reply),
}

fn pairs(r: &mut Reader) -> Result<Vec<(Bytes, Bytes)>, Malformed> {
    let mut pairs = Vec::new();
    while !r.is_empty() {
        pairs.push((r.string()?, r.string()?));
    }
    Ok(pairs)
}

fn greeting(out: &mut BytesMut, kind: u8, version: u32, extensions: &[(Bytes, Bytes)]) {
    let mut frame = Frame::begin(out, kind).u32(version);
    for (name, value) in extensions {
        frame = frame.string(name).string(value);
    }
    frame.end();
}

impl Init {
    /// Appends the packet.
    pub fn encode(&self, out: &mut BytesMut) {
        greeting(out, kind::INIT, self.version, &self.extensions);
    }
}

impl Version {
    /// Appends the packet.
    pub fn encode(&self, out: &mut BytesMut) {
        greeting(out, kind::VERSION, self.version, &self.extensions);
    }
}

impl FromClient {
    /// Decodes one frame. Errors carry the id of the request where it could be read.
    pub fn decode(frame: Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new(frame);
        let kind = r.u8()?;
        if kind == kind::INIT {
            let version = r.u32()?;
            return Ok(FromClient::Init(Init { version, extensions: pairs(&mut r)? }));
        }
        let id = r.u32()?;
        Request::decode(kind, r).map(|q| FromClient::Request(id, q)).map_err(|e| e.of(id))
    }
}

impl Request {
    fn decode(kind: u8, mut r: Reader) -> Result<Self, Malformed> {
        Ok(match kind {
            kind::OPEN => Request::Open { path: r.string()?, flags: r.u32()?, attrs: Attrs::decode(&mut r)? },
            kind::CLOSE => Request::Close { handle: r.string()? },
            kind::READ => Request::Read { handle: r.string()?, offset: r.u64()?, len: r.u32()? },
            kind::WRITE => Request::Write { handle: r.string()?, offset: r.u64()?, data: r.string()? },
            kind::LSTAT => Request::Lstat { path: r.string()? },
            kind::FSTAT => Request::Fstat { handle: r.string()? },
            kind::SETSTAT => Request::Setstat { path: r.string()?, attrs: Attrs::decode(&mut r)? },
            kind::FSETSTAT => Request::Fsetstat { handle: r.string()?, attrs: Attrs::decode(&mut r)? },
            kind::OPENDIR => Request::Opendir { path: r.string()? },
            kind::READDIR => Request::Readdir { handle: r.string()? },
            kind::REMOVE => Request::Remove { path: r.string()? },
            kind::MKDIR => Request::Mkdir { path: r.string()?, attrs: Attrs::decode(&mut r)? },
            kind::RMDIR => Request::Rmdir { path: r.string()? },
            kind::REALPATH => Request::Realpath { path: r.string()? },
            kind::STAT => Request::Stat { path: r.string()? },
            kind::RENAME => Request::Rename { from: r.string()?, to: r.string()? },
            kind::READLINK => Request::Readlink { path: r.string()? },
            kind::SYMLINK => Request::Symlink { target: r.string()?, link: r.string()? },
            kind::EXTENDED => Request::Extended(Extended::decode(&mut r)?),
            _ => Request::Unknown { kind, body: r.rest() },
        })
    }

    /// The packet type.
    pub fn kind(&self) -> u8 {
        match self {
            Request::Close { .. } => kind::CLOSE,
            Request::Extended(_) => kind::EXTENDED,
            Request::Fsetstat { .. } => kind::FSETSTAT,
            Request::Fstat { .. } => kind::FSTAT,
            Request::Lstat { .. } => kind::LSTAT,
            Request::Mkdir { .. } => kind::MKDIR,
            Request::Open { .. } => kind::OPEN,
            Request::Opendir { .. } => kind::OPENDIR,
            Request::Read { .. } => kind::READ,
            Request::Readdir { .. } => kind::READDIR,
            Request::Readlink { .. } => kind::READLINK,
            Request::Realpath { .. } => kind::REALPATH,
            Request::Remove { .. } => kind::REMOVE,
            Request::Rename { .. } => kind::RENAME,
            Request::Rmdir { .. } => kind::RMDIR,
            Request::Setstat { .. } => kind::SETSTAT,
            Request::Stat { .. } => kind::STAT,
            Request::Symlink { .. } => kind::SYMLINK,
            Request::Unknown { kind, .. } => *kind,
            Request::Write { .. } => kind::WRITE,
        }
    }

    /// Appends the packet.
    pub fn encode(&self, id: u32, out: &mut BytesMut) {
        if let Request::Write { handle, offset, data } = self {
            Self::encode_write_header(id, handle, *offset, data.len(), out);
            out.extend_from_slice(data);
            return;
        }
        let f = Frame::begin(out, self.kind()).u32(id);
        match self {
            Request::Open { path, flags, attrs } => f.string(path).u32(*flags).with(|out| attrs.encode(out)),
            Request::Close { handle } | Request::Fstat { handle } | Request::Readdir { handle } => {
                f.string(handle)
            }
            Request::Read { handle, offset, len } => f.string(handle).u64(*offset).u32(*len),
            Request::Write { .. } => f,
            Request::Lstat { path }
            | Request::Opendir { path }
            | Request::Remove { path }
            | Request::Rmdir { path }
            | Request::Realpath { path }
            | Request::Stat { path }
            | Request::Readlink { path } => f.string(path),
            Request::Setstat { path, attrs } | Request::Mkdir { path, attrs } => {
                f.string(path).with(|out| attrs.encode(out))
            }
            Request::Fsetstat { handle, attrs } => f.string(handle).with(|out| attrs.encode(out)),
            Request::Rename { from, to } => f.string(from).string(to),
            Request::Symlink { target, link } => f.string(target).string(link),
            Request::Extended(e) => f.with(|out| e.encode(out)),
            Request::Unknown { body, .. } => f.raw(body),
        }
        .end();
    }

    /// Appends a WRITE packet up to where its `len` bytes of content begin; the caller sends those next.
    pub fn encode_write_header(id: u32, handle: &[u8], offset: u64, len: usize, out: &mut BytesMut) {
        let content = u32::try_from(len).unwrap_or(u32::MAX);
        Frame::begin(out, kind::WRITE).u32(id).string(handle).u64(offset).u32(content).end_before(len);
    }

    /// The flags of an OPEN as bits with names.
    pub fn open_flags(flags: u32) -> OpenFlags {
        OpenFlags::from_bits_retain(flags)
    }
}

impl FromServer {
    /// Decodes one frame. Errors carry the id of the request where it could be read.
    pub fn decode(frame: Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new(frame);
        let kind = r.u8()?;
        let number = r.u32()?;
        if kind == kind::VERSION {
            return Ok(FromServer::Version(Version { version: number, extensions: pairs(&mut r)? }));
        }
        Reply::decode(kind, r).map(|p| FromServer::Reply(number, p)).map_err(|e| e.of(number))
    }
}

impl Reply {
    fn decode(kind: u8, mut r: Reader) -> Result<Self, Malformed> {
        Ok(match kind {
            kind::STATUS => {
                let code = r.u32()?;
                // Servers of the first versions send the code alone.
                let message = if r.is_empty() { Bytes::new() } else { r.string()? };
                let language = if r.is_empty() { Bytes::new() } else { r.string()? };
                Reply::Status { code, message, language }
            }
            kind::HANDLE => Reply::Handle(r.string()?),
            kind::DATA => Reply::Data(r.string()?),
            kind::NAME => {
                let mut names = Vec::new();
                for _ in 0..r.u32()? {
                    names.push(Name {
                        name: r.string()?,
                        longname: r.string()?,
                        attrs: Attrs::decode(&mut r)?,
                    });
                }
                Reply::Name(names)
            }
            kind::ATTRS => Reply::Attrs(Attrs::decode(&mut r)?),
            kind::EXTENDED_REPLY => Reply::Extended(r.rest()),
            _ => return Err(Malformed::new("an unknown packet type")),
        })
    }

    /// A STATUS in English.
    pub fn status(code: u32, message: &str) -> Self {
        Reply::Status {
            code,
            message: Bytes::copy_from_slice(message.as_bytes()),
            language: Bytes::from_static(b"en"),
        }
    }

    /// A NAME that holds one path, as REALPATH and READLINK answer.
    pub fn path(path: Bytes) -> Self {
        Reply::Name(vec![Name { longname: path.clone(), name: path, attrs: Attrs::default() }])
    }

    /// Appends the packet.
    pub fn encode(&self, id: u32, out: &mut BytesMut) {
        match self {
            Reply::Status { code, message, language } => {
                Frame::begin(out, kind::STATUS).u32(id).u32(*code).string(message).string(language).end()
            }
            Reply::Handle(handle) => Frame::begin(out, kind::HANDLE).u32(id).string(handle).end(),
            Reply::Data(data) => {
                out.extend_from_slice(&data_header(id, data.len()));
                out.extend_from_slice(data);
            }
            Reply::Name(names) => {
                let mut f =
                    Frame::begin(out, kind::NAME).u32(id).u32(u32::try_from(names.len()).unwrap_or(u32::MAX));
                for n in names {
                    f = f.string(&n.name).string(&n.longname).with(|out| n.attrs.encode(out));
                }
                f.end();
            }
            Reply::Attrs(attrs) => {
                Frame::begin(out, kind::ATTRS).u32(id).with(|out| attrs.encode(out)).end();
            }
            Reply::Extended(body) => Frame::begin(out, kind::EXTENDED_REPLY).u32(id).raw(body).end(),
        }
    }
}

/// How long [`data_header`] is.
pub const DATA_HEADER: usize = 13;

/// A DATA packet up to where its `len` bytes of content begin.
pub fn data_header(id: u32, len: usize) -> [u8; DATA_HEADER] {
    let content = u32::try_from(len).unwrap_or(u32::MAX);
    let [a, b, c, d] = content.saturating_add(9).to_be_bytes();
    let [e, f, g, h] = id.to_be_bytes();
    let [i, j, k, l] = content.to_be_bytes();
    [a, b, c, d, kind::DATA, e, f, g, h, i, j, k, l]
}

#[cfg(test)]
mod tests {
    use super::super::attrs::tests::any_attrs;
    use super::super::codec::Frames;
    use super::super::extension::tests::any_extended;
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
    }

    fn any_request() -> impl Strategy<Value = Request> {
        prop_oneof![
            bytes().prop_map(|handle| Request::Close { handle }),
            any_extended().prop_map(Request::Extended),
            (bytes(), any_attrs()).prop_map(|(handle, attrs)| Request::Fsetstat { handle, attrs }),
            bytes().prop_map(|handle| Request::Fstat { handle }),
            bytes().prop_map(|path| Request::Lstat { path }),
            (bytes(), any_attrs()).prop_map(|(path, attrs)| Request::Mkdir { path, attrs }),
            (bytes(), any::<u32>(), any_attrs()).prop_map(|(path, flags, attrs)| Request::Open {
                path,
                flags,
                attrs
            }),
            bytes().prop_map(|path| Request::Opendir { path }),
            (bytes(), any::<u64>(), any::<u32>()).prop_map(|(handle, offset, len)| Request::Read {
                handle,
                offset,
                len
            }),
            bytes().prop_map(|handle| Request::Readdir { handle }),
            bytes().prop_map(|path| Request::Readlink { path }),
            bytes().prop_map(|path| Request::Realpath { path }),
            bytes().prop_map(|path| Request::Remove { path }),
            (bytes(), bytes()).prop_map(|(from, to)| Request::Rename { from, to }),
            bytes().prop_map(|path| Request::Rmdir { path }),
            (bytes(), any_attrs()).prop_map(|(path, attrs)| Request::Setstat { path, attrs }),
            bytes().prop_map(|path| Request::Stat { path }),
            (bytes(), bytes()).prop_map(|(target, link)| Request::Symlink { target, link }),
            (21u8..100, bytes()).prop_map(|(kind, body)| Request::Unknown { kind, body }),
            (bytes(), any::<u64>(), bytes()).prop_map(|(handle, offset, data)| Request::Write {
                handle,
                offset,
                data
            }),
        ]
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let name = (bytes(), bytes(), any_attrs()).prop_map(|(name, longname, attrs)| Name {
            name,
            longname,
            attrs,
        });
        prop_oneof![
            any_attrs().prop_map(Reply::Attrs),
            bytes().prop_map(Reply::Data),
            bytes().prop_map(Reply::Extended),
            bytes().prop_map(Reply::Handle),
            proptest::collection::vec(name, 0..4).prop_map(Reply::Name),
            (any::<u32>(), bytes(), bytes()).prop_map(|(code, message, language)| Reply::Status {
                code,
                message,
                language
            }),
        ]
    }

    fn one_frame(out: BytesMut) -> Bytes {
        let mut frames = Frames::default();
        frames.push(out.freeze());
        let frame = frames.next_frame().unwrap().unwrap();
        assert_eq!(frames.buffered(), 0, "the length field is right");
        frame
    }

    proptest! {
        #[test]
        fn requests_round_trip(id: u32, request in any_request()) {
            let mut out = BytesMut::new();
            request.encode(id, &mut out);
            prop_assert_eq!(FromClient::decode(one_frame(out)).unwrap(), FromClient::Request(id, request));
        }

        #[test]
        fn replies_round_trip(id: u32, reply in any_reply()) {
            let mut out = BytesMut::new();
            reply.encode(id, &mut out);
            prop_assert_eq!(FromServer::decode(one_frame(out)).unwrap(), FromServer::Reply(id, reply));
        }

        #[test]
        fn greetings_round_trip(version: u32, extensions in proptest::collection::vec((bytes(), bytes()), 0..4)) {
            let mut out = BytesMut::new();
            let init = Init { version, extensions: extensions.clone() };
            init.encode(&mut out);
            prop_assert_eq!(FromClient::decode(one_frame(out)).unwrap(), FromClient::Init(init));
            let mut out = BytesMut::new();
            let hello = Version { version, extensions };
            hello.encode(&mut out);
            prop_assert_eq!(FromServer::decode(one_frame(out)).unwrap(), FromServer::Version(hello));
        }

        #[test]
        fn any_bytes_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..80)) {
            crate::wire::fuzz::all(&frame);
        }

        #[test]
        fn damaged_packets_never_panic(
            request in any_request(),
            reply in any_reply(),
            damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        ) {
            let mut out = BytesMut::new();
            request.encode(7, &mut out);
            let mut other = BytesMut::new();
            reply.encode(7, &mut other);
            for mut packet in [out.to_vec(), other.to_vec()] {
                for (place, value) in &damage {
                    let place = usize::from(*place) % packet.len();
                    packet[place] = *value;
                }
                crate::wire::fuzz::frames(&packet);
                crate::wire::fuzz::from_client(&packet[4..]);
                crate::wire::fuzz::from_server(&packet[4..]);
            }
        }

        #[test]
        fn a_packet_cut_anywhere_is_an_error_or_a_packet(id: u32, request in any_request(), keep in 0.0f64..1.0) {
            let mut out = BytesMut::new();
            request.encode(id, &mut out);
            let frame = one_frame(out);
            let cut = frame.slice(..(frame.len() as f64 * keep) as usize);
            let _ = FromClient::decode(cut);
        }
    }

    #[test]
    fn content_is_a_slice_of_the_frame() {
        let mut out = BytesMut::new();
        Request::Write { handle: Bytes::from_static(b"h"), offset: 7, data: Bytes::from_static(b"content") }
            .encode(1, &mut out);
        let frame = one_frame(out);
        let Ok(FromClient::Request(1, Request::Write { data, .. })) = FromClient::decode(frame.clone())
        else {
            panic!("not the WRITE that was sent");
        };
        assert_eq!(data.as_ptr(), frame[frame.len() - 7..].as_ptr());
        let mut out = BytesMut::new();
        Reply::Data(Bytes::from_static(b"content")).encode(1, &mut out);
        let frame = one_frame(out);
        let Ok(FromServer::Reply(1, Reply::Data(data))) = FromServer::decode(frame.clone()) else {
            panic!("not the DATA that was sent");
        };
        assert_eq!(data.as_ptr(), frame[frame.len() - 7..].as_ptr());
    }

    #[test]
    fn a_fault_names_its_request_where_it_can() {
        assert_eq!(FromClient::decode(Bytes::from_static(b"\x03\0\0\0\x09\0")).unwrap_err().id, Some(9));
        assert_eq!(FromServer::decode(Bytes::from_static(b"\x63\0\0\0\x09")).unwrap_err().id, Some(9));
        assert_eq!(FromClient::decode(Bytes::from_static(b"\x03\0\0")).unwrap_err().id, None);
    }

    #[test]
    fn a_status_without_words_and_an_open_without_attributes_are_read() {
        let frame = Bytes::from_static(b"\x65\0\0\0\x01\0\0\0\x02");
        let want = Reply::Status { code: 2, message: Bytes::new(), language: Bytes::new() };
        assert_eq!(FromServer::decode(frame).unwrap(), FromServer::Reply(1, want));
        let frame = Bytes::from_static(b"\x03\0\0\0\x01\0\0\0\x01a\0\0\0\x01");
        let want = Request::Open { path: Bytes::from_static(b"a"), flags: 1, attrs: Attrs::default() };
        assert_eq!(FromClient::decode(frame).unwrap(), FromClient::Request(1, want));
    }
}
