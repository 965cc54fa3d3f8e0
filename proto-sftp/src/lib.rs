//! SFTP (and later SCP) over SSH, client and server half.
