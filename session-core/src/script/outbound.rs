//! The members of scripts that reach beyond the session's own files, as rows of the table of [`super::members`].

use super::grants::Grant;
use super::members::{Kind, Member, g, m};

/// Of every client.
const fn c(name: &'static str, signature: &'static str, does: &'static str) -> Member {
    g(Grant::Remotes, Kind::Remote, name, signature, does)
}

const fn o(name: &'static str, signature: &'static str, does: &'static str) -> Member {
    m(Kind::RemoteOptions, name, signature, does)
}

/// Of `PGP`.
const fn pgp(name: &'static str, signature: &'static str, does: &'static str) -> Member {
    g(Grant::Pgp, Kind::Pgp, name, signature, does)
}

use Kind::{Global, PgpResponse, Sql, Vfs};

/// Every one, beside those of [`super::members::MEMBERS`].
pub(super) static OUTBOUND: &[Member] = &[
    g(
        Grant::Local,
        Vfs,
        "ImportFile",
        "(local: string, path: string): VfsResponse",
        "copies a file of this machine here, of any size; it lies in one of `folders` of `[scripts]`",
    ),
    g(
        Grant::Local,
        Vfs,
        "ExportFile",
        "(path: string, local: string): VfsResponse",
        "copies a file from here to this machine, into one of `folders` of `[scripts]`",
    ),
    m(
        Vfs,
        "CopyToVFS",
        "(path: string, target: VirtualFileSystem, targetPath?: string): VfsResponse",
        "copies a file of any size to another VFS, under the same path where none is given",
    ),
    m(
        Vfs,
        "MoveToVFS",
        "(path: string, target: VirtualFileSystem, targetPath?: string): VfsResponse",
        "the same, and removes it here once it is there",
    ),
    m(Global, "AlwaysOverwrite", ": 1", "a transfer policy: what is there is replaced"),
    m(Global, "NeverOverwrite", ": 0", "a transfer policy: what is there stays; the usual one"),
    m(Global, "OverwriteIfDiffSize", ": 2", "a transfer policy: what is there stays if it has the same size"),
    m(Global, "OverwriteIfNewer", ": 3", "a transfer policy: what is there stays unless it is older"),
    m(Global, "LIST_ALL", ": 0", "for `ListDir`: everything"),
    m(Global, "LIST_DIRS", ": 2", "for `ListDir`: directories"),
    m(Global, "LIST_FILES", ": 1", "for `ListDir`: what is no directory"),
    m(Global, "TLS_MODE_EXPLICIT", ": 1", "FTP that turns to TLS, or fails"),
    m(Global, "TLS_MODE_IMPLICIT", ": 2", "TLS from the first byte"),
    m(Global, "TLS_MODE_NONE", ": 0", "in the clear, which the configuration must allow"),
    m(Global, "VfsTypeDisk", ": 'Disk'", "for `VirtualFS`: a folder of this machine"),
    m(Global, "VfsTypeFTPS", ": 'FTPS'", "for `VirtualFS`: a URL of `ftps:`, `ftpes:` or `ftp:`"),
    m(Global, "VfsTypeMemory", ": 'Memory'", "for `VirtualFS`: memory of this handler, 64 MiB, gone with it"),
    m(
        Global,
        "VfsTypeS3",
        ": 'S3'",
        "for `VirtualFS`: a URL of `s3:` or `s3plain:`; its first folder is the bucket",
    ),
    m(Global, "VfsTypeSFTP", ": 'SFTP'", "for `VirtualFS`: a URL of `sftp:`"),
    m(
        Global,
        "VfsTypeWebDAV",
        ": 'WebDAV'",
        "for `VirtualFS`: a URL of `davs:`, `https:`, `dav:` or `http:`",
    ),
    m(
        Global,
        "VirtualFS",
        "new (type: string, target?: string, payload?: string): VirtualFileSystem",
        "another filesystem, opened when it is first used and closed with the handler; a folder needs the grant \
         `local`, memory `files`, other servers `remotes`; of those the target is a URL and the payload JSON \
         (`pass`, `private_key`, `private_key_pass`, `hostKeySHA256`, `certSHA256`, `token`; of S3 `api_key_id`, \
         `api_key_secret`, `region`, `pathStyle`)",
    ),
    g(
        Grant::Remotes,
        Global,
        "SftpClient",
        "new (): RemoteClient",
        "a client of SFTP; the server's host key must be named",
    ),
    g(
        Grant::Remotes,
        Global,
        "FtpsClient",
        "new (): RemoteClient",
        "a client of FTP over TLS; the certificate must be vouched for, or named",
    ),
    g(
        Grant::Remotes,
        Global,
        "WebDavClient",
        "new (): RemoteClient",
        "a client of WebDAV; the certificate must be vouched for, or named",
    ),
    g(
        Grant::Remotes,
        Global,
        "S3Client",
        "new (): RemoteClient",
        "a client of one bucket of S3, which is its root; without a key it signs nothing",
    ),
    g(
        Grant::Mail,
        Global,
        "SendMail",
        "(from: string, to: string | string[], subject: string, body: string, attachment?: string): void",
        "sends a mail over the server of `[mail]`; several receivers are a list, or parted by commas; the attachment \
         is a file of the user's (needs `files` too)",
    ),
    g(
        Grant::Sql,
        Global,
        "SqlQuery",
        "(connection: string, query: string, parameters?: unknown[]): SqlResult",
        "one statement on a database of `[sql]`; `?` (SQLite) or `$1` (PostgreSQL) stand for the parameters",
    ),
    m(Sql, "Columns", ": string[]", "the names of the columns"),
    m(Sql, "Rows", ": Record<string, any>[]", "the rows; what a number cannot hold exactly is a string"),
    m(
        Sql,
        "Affected",
        ": number",
        "rows that were changed; of PostgreSQL with `write`, also rows that were read",
    ),
    pgp(
        "EncryptFile",
        "(from: PgpFile, to: PgpFile, options: { recipients: string[], sign?: string, armor?: boolean }): PgpResponse",
        "makes a message that these can read, signed where `sign` names a key; keys are named by whole fingerprints",
    ),
    pgp(
        "DecryptFile",
        "(from: PgpFile, to: PgpFile, options?: { signers?: string[], key?: string }): PgpResponse",
        "what is in a message that nobody has changed; with `signers` one of them has signed it, without them \
         signatures are not looked at. `key` is the one that opens it, where several have passphrases",
    ),
    pgp(
        "SignFile",
        "(file: PgpFile, signature: PgpFile, options: { key: string, armor?: boolean }): PgpResponse",
        "makes a signature that stands apart",
    ),
    pgp(
        "VerifyFile",
        "(file: PgpFile, signature: PgpFile, options: { signers: string[] }): PgpResponse",
        "`Ok()` where it is the signature of one of these, and of this very content",
    ),
    pgp(
        "EncryptText",
        "(text: string | Uint8Array, options: { recipients: string[], sign?: string }): PgpResponse",
        "`Data()` is the message, as text; at most 4 MiB",
    ),
    pgp(
        "DecryptText",
        "(message: string | Uint8Array, options?: { signers?: string[], key?: string }): PgpResponse",
        "`Data()` is what is in a message, as `DecryptFile`; at most 4 MiB",
    ),
    pgp(
        "SignText",
        "(text: string | Uint8Array, options: { key: string }): PgpResponse",
        "`Data()` is a signature of the text's UTF-8, as text",
    ),
    pgp(
        "VerifyText",
        "(text: string | Uint8Array, signature: string | Uint8Array, options: { signers: string[] }): PgpResponse",
        "as `VerifyFile`",
    ),
    m(PgpResponse, "Ok", "(): boolean", "whether it was done; if not, the target is as it was"),
    m(PgpResponse, "ErrorMsg", "(): string", "why not; empty otherwise"),
    m(PgpResponse, "Data", "(): string", "of those that make or open a text"),
    m(
        PgpResponse,
        "Signers",
        "(): readonly string[]",
        "which of `signers` have signed, by the fingerprints they were named by",
    ),
    c("Host", ": string", "`host:port`; without a port the protocol's own; of S3 where it is not AWS"),
    c("URL", ": string", "instead of `Host`, as `Configure` sets it"),
    c("User", ": string", "who logs in; of S3 as `APIKeyID`"),
    c("Pass", ": string", "the password; of S3 as `APIKeySecret`"),
    c("HostID", ": string", "what the log calls it"),
    c("Key", "?: string", "SFTP: the private key itself, of a secret"),
    c("KeyFile", "?: string", "SFTP: the private key's file, in one of `folders` (needs `local`)"),
    c("KeyFilePass", "?: string", "SFTP: what opens the private key"),
    c("HostKeySHA256", "?: string", "SFTP: the host key, as `ferry fingerprint` tells it"),
    c("HostKeyMD5", "?: string", "SFTP: the same in the old form"),
    c("HostKeySHA1", "?: string", "SFTP: refused; name the SHA-256"),
    c("TLSMode", "?: number", "FTP, WebDAV and S3: one of `TLS_MODE_…`"),
    c("TLSInsecure", "?: boolean", "refused where it is true: name the certificate"),
    c(
        "CertSHA256",
        "?: string",
        "FTP, WebDAV and S3: the certificate, which then needs nobody to vouch for it",
    ),
    c("Token", "?: string", "WebDAV: shown instead of user and password; S3: of a key that holds for a time"),
    c("APIKeyID", "?: string", "S3: the id of the access key; without one nothing is signed"),
    c("APIKeySecret", "?: string", "S3: the key's secret"),
    c("APIKeySecretFromSecret", "?: string", "S3: the secret of this name instead (needs `secrets`)"),
    c("Bucket", "?: string", "S3: the bucket; without one the buckets are the folders of the root"),
    c("Region", "?: string", "S3: the region; found out where it is not said"),
    c("PathStyle", "?: boolean", "S3: the bucket stands in the path, as it does anyway but at AWS"),
    c(
        "UseMetadataWhenListing",
        "?: boolean",
        "S3: taken, and not needed: a file's own time is looked up when it is copied",
    ),
    c("Options", ": RemoteOptions", "how files are transferred"),
    c("LastError", ": string", "what went wrong last; empty where nothing did"),
    c(
        "Configure",
        "(url: string, payload?: string): RemoteClient",
        "sets all of it: a URL, whose query may name keys, and JSON with what is secret",
    ),
    c("Connect", "(): boolean", "connects; failures are logged, here and below"),
    c("Close", "(): boolean", "ends the connection, as the end of the handler does"),
    c("GetVFS", "(): VirtualFileSystem", "everything that a VFS can do, over this connection"),
    c("ListDir", "(dir: string, types?: number): DirListItem[]", "throws where it cannot be listed"),
    c(
        "ListDirR",
        "(dir: string, types?: number): DirListItem[]",
        "the same with all below; names are paths from `dir`",
    ),
    c("ListFiles", "(dir: string, mask: string): DirListItem[]", "files whose names match"),
    c("ListFilesR", "(dir: string, mask: string): DirListItem[]", "the same with all below"),
    c("MakeDir", "(dir: string): boolean", "makes a directory and those above it"),
    c("RenDir", "(from: string, to: string): boolean", "renames a directory"),
    c("DelDir", "(dir: string): boolean", "removes an empty directory"),
    c("DelTree", "(dir: string): boolean", "removes a directory with all below it"),
    c("RenFile", "(from: string, to: string): boolean", "renames a file"),
    c("DelFile", "(path: string): boolean", "removes a file"),
    c(
        "Upload",
        "(local: string, dir: string): boolean",
        "files of this machine whose names match the last part, into a folder over there (needs `local`)",
    ),
    c("UploadR", "(local: string, dir: string): boolean", "the same with all folders below"),
    c(
        "Download",
        "(remote: string, dir: string): boolean",
        "files whose names match the last part, into a folder of this machine (needs `local`)",
    ),
    c("DownloadR", "(remote: string, dir: string): boolean", "the same with all folders below"),
    o("UploadPolicy", ": number", "what happens to a file that is there"),
    o("DownloadPolicy", ": number", "the same here"),
    o("StopOnTransferError", ": boolean", "nothing more is transferred after a failure"),
    o("AdjustTimeOnUpload", ": boolean", "the copy gets the file's time"),
    o("AdjustTimeOnDownload", ": boolean", "the same here"),
    o("UploadWithTempName", ": boolean", "the copy ends in `.part` until it is whole"),
    o("DownloadWithTempName", ": boolean", "the same here"),
    o("DeleteSourceAfterUpload", ": boolean", "a file is removed once it is over there"),
    o("DeleteSourceAfterDownload", ": boolean", "a file is removed once it is here"),
];
