#!/bin/sh
# Made the files of this directory: openssl 3 (its `legacy` provider for the old ciphers), NSS, Java's keytool and
# faketime, so that the certificates hold from 2024 on, for a hundred years. The passphrase is "opens-it".
set -eu
D=36500
openssl() { faketime '2024-01-01' openssl "$@"; }
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days $D -subj '/CN=Ferry test authority' \
    -keyout ca.key -out ca.crt
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days $D -subj '/CN=Ferry test intermediate' \
    -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:TRUE -keyout between.key -out between.crt
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days $D -subj '/CN=own' \
    -CA between.crt -CAkey between.key -addext basicConstraints=CA:FALSE -addext extendedKeyUsage=clientAuth \
    -keyout own.key -out own.crt

pem() { cat own.crt between.crt "$1" > "$2.pem"; rm -f "$1"; }
pem8() { name=$1; shift; openssl pkcs8 -topk8 -in own.key -passout pass:opens-it -out k "$@"; pem k "$name"; }
cat own.crt between.crt own.key > plain.pem
pem8 pkcs8-aes256 -v2 aes-256-cbc
pem8 pkcs8-aes128-sha1 -v2 aes-128-cbc -v2prf hmacWithSHA1
pem8 pkcs8-3des -v2 des3
pem8 pkcs8-scrypt -scrypt
pem8 pkcs8-pkcs12 -v1 PBE-SHA1-3DES -provider default -provider legacy
pem8 pkcs8-des -v1 PBE-MD5-DES -provider default -provider legacy
for cipher in aes128 aes192 aes256 des3; do
    openssl ec -in own.key -$cipher -passout pass:opens-it -out k; pem k old-$cipher
done
openssl ec -in own.key -des -passout pass:opens-it -out k -provider default -provider legacy; pem k old-des

# The authority stands before what it vouches for in `chain`: the order of files is not that of TLS.
cat ca.crt between.crt > chain
p12() { name=$1; shift; openssl pkcs12 -export -in own.crt -inkey own.key -certfile chain -out "$name.p12" "$@"; }
p12 usual -passout pass:opens-it
p12 legacy -passout pass:opens-it -legacy
p12 old-ciphers -passout pass:opens-it -legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-2DES
p12 rc4 -passout pass:opens-it -legacy -keypbe PBE-SHA1-RC4-128
p12 sha512 -passout pass:opens-it -macalg sha512
p12 no-mac -passout pass:opens-it -nomac
p12 empty -passout pass:
p12 bare -passout pass: -keypbe NONE -certpbe NONE -nomac
p12 wide -passout pass:'öffne 🔑'
openssl pkcs12 -export -nokeys -in own.crt -passout pass:opens-it -out no-key.p12
# Not of openssl: NSS writes BER with indefinite lengths, Java other names, salts and rounds.
mkdir db
certutil -N -d db --empty-password
pk12util -d db -i usual.p12 -W opens-it
pk12util -d db -o nss.p12 -n "$(certutil -L -d db | sed -n 's/ *u,u,u *$//p')" -W opens-it
keytool -importkeystore -srckeystore usual.p12 -srcstorepass opens-it -destkeystore java.p12 -deststoretype pkcs12 \
    -deststorepass opens-it -destkeypass opens-it -srcalias 1 -destalias own
rm -rf db chain ca.key between.key own.key own.crt between.crt
