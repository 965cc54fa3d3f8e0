//! LIST as `ls -l` writes it, for people and for clients that know nothing better.
