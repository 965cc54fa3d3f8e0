//! What a client alone costs: a server of FTP that keeps nothing.
//!
//! Uploads go to nowhere, with as few system calls as the protocol allows: one listener for all data
//! connections of a session, a thread for each session, no look at what is said. How quick a client is with
//! it bounds what any server can reach under that client. It is a process of its own, so that what it
//! spends is metered as that of any server; it is never reached but on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use crate::Verdict;
use crate::fault::{Result, While};
use crate::flags::Flags;

/// The name of the command that is the server.
pub(crate) const NAME: &str = "bench-floor";

/// `cargo xtask bench-floor PORT`: serves until it is ended.
pub(crate) fn run(mut flags: Flags) -> Result<Verdict> {
    let port = flags.positional().unwrap_or_default();
    flags.end()?;
    let port = port.parse::<u16>().doing(|| format!("reading the port {port:?}"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).doing(|| "listening".to_owned())?;
    for stream in listener.incoming().flatten() {
        // A client that breaks off is done.
        thread::spawn(move || drop(serve(stream)));
    }
    Ok(Verdict::Good)
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let data = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let here = format!("229 here (|||{}|)", data.local_addr()?.port());
    let mut stream = BufReader::new(stream);
    let mut buffer = vec![0; 1 << 16];
    say(&mut stream, "220 nothing is kept")?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = match line.split_ascii_whitespace().next().unwrap_or_default() {
            "USER" => "331 and",
            "PASS" => "230 in",
            "PWD" => "257 \"/\"",
            "CWD" => "250 there",
            "EPSV" => &here,
            "STOR" => {
                let (mut sent, _) = data.accept()?;
                say(&mut stream, "150 go on")?;
                while sent.read(&mut buffer)? > 0 {}
                "226 gone"
            }
            "QUIT" => return say(&mut stream, "221 bye"),
            "TYPE" => "200 so be it",
            _ => "502 no",
        };
        say(&mut stream, answer)?;
    }
}

fn say(stream: &mut BufReader<TcpStream>, answer: &str) -> std::io::Result<()> {
    stream.get_mut().write_all(format!("{answer}\r\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_answered_when_all_of_it_was_read() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || serve(listener.accept().unwrap().0).unwrap());
        let mut control = BufReader::new(TcpStream::connect(at).unwrap());
        let mut ask = |verb: &str| {
            let mut answer = String::new();
            if !verb.is_empty() {
                control.get_mut().write_all(format!("{verb}\r\n").as_bytes()).unwrap();
            }
            control.read_line(&mut answer).unwrap();
            answer
        };
        assert!(ask("").starts_with("220"));
        for _ in 0..2 {
            let here = ask("EPSV");
            let port = here.split('|').nth(3).unwrap().parse::<u16>().unwrap();
            let mut data = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            assert!(ask("STOR x").starts_with("150"));
            data.write_all(&[7; 4096]).unwrap();
            drop(data);
            assert!(ask("").starts_with("226"));
        }
        assert!(ask("NLST").starts_with("502"));
    }
}
