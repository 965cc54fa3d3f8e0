//! MLST and MLSD: facts and names (RFC 3659, section 7), written and read.
