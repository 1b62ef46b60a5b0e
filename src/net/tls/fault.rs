//! What rustls says, in the words of the status table. No text holds a secret, a peer's name or a peer's address.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::{
    Counters,
    verify::{CertificateTooLarge, PinMismatch},
};
use crate::status::{Fault, Status};

/// A failure of rustls: counted, and told with what to do about it.
pub(super) fn of_tls(error: &Error, counters: &mut Counters) -> Fault {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error, counters),
        Error::AlertReceived(alert) => of_alert(*alert, counters),
        Error::NoApplicationProtocol => no_alpn(counters),
        Error::NoCertificatesPresented => {
            counters.bad_identity += 1;
            identity("the peer showed no certificate")
        }
        Error::PeerIncompatible(why) => {
            counters.bad_protocol += 1;
            tls(format!(
                "the peer has no TLS version or feature in common with us, 1.2 or 1.3 is needed: {why:?}"
            ))
        }
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => {
            counters.bad_protocol += 1;
            tls("the peer does not speak TLS on this port: is it meant to be tcp://?")
        }
        // What is left are kinds and numbers of the protocol, and nothing of its content.
        error => {
            counters.bad_protocol += 1;
            tls(format!("the peer broke the TLS protocol: {error}"))
        }
    }
}

/// The peer agreed to none of our protocols.
pub(super) fn no_alpn(counters: &mut Counters) -> Fault {
    counters.bad_alpn += 1;
    tls("the peer does not speak this protocol (no common ALPN name): check the port and both versions")
}

/// The peer sent more than a handshake may have.
pub(super) fn oversize(limit: usize, counters: &mut Counters) -> Fault {
    counters.oversize += 1;
    tls(format!("the peer's TLS handshake has more than {limit} octets"))
}

/// The connection ended without TLS saying so.
pub(super) fn truncated(handshaking: bool, counters: &mut Counters) -> Fault {
    counters.truncated += 1;
    Fault::new(
        Status::Closed,
        match handshaking {
            true => "the connection ended during the TLS handshake",
            false => {
                "the connection was cut without the peer's TLS goodbye: the last message may be incomplete"
            }
        },
    )
}

/// The socket failed.
pub(super) fn of_socket(error: &io::Error, counters: &mut Counters) -> Fault {
    use io::ErrorKind::*;
    match error.kind() {
        ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected | WriteZero => {
            counters.truncated += 1;
            Fault::new(Status::Closed, "the connection was reset")
        }
        TimedOut => {
            Fault::new(Status::Timeout, "the connection timed out: the peer's host no longer answers")
        }
        _ => Fault::new(Status::Io, format!("the socket failed: {error}")),
    }
}

fn of_certificate(error: &CertificateError, counters: &mut Counters) -> Fault {
    use CertificateError::*;
    if let Other(other) = error
        && other.0.is::<CertificateTooLarge>()
    {
        counters.oversize += 1;
        return tls(CertificateTooLarge.to_string());
    }
    counters.bad_identity += 1;
    match error {
        Other(other) => match other.0.downcast_ref::<PinMismatch>() {
            Some(PinMismatch { shown }) => identity(format!(
                "the server's key is not the pinned one, it showed {shown}: if its key was changed on purpose, pin that"
            )),
            None => identity("the peer's certificate is not acceptable"),
        },
        Expired | ExpiredContext { .. } => {
            identity("the server's certificate has expired: renew it there, and check the clock here")
        }
        NotValidYet | NotValidYetContext { .. } => {
            identity("the server's certificate is not valid yet: check the clock here")
        }
        UnknownIssuer => identity(
            "the server's certificate is not signed by a trusted authority: check the CA file, or pin the server's key",
        ),
        NotValidForName | NotValidForNameContext { .. } => {
            identity("the server's certificate is not for the configured host name: check the URL")
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            identity("the server's certificate is not meant for servers (its extended key usage)")
        }
        BadSignature => identity(
            "the peer does not hold the key of its certificate, or its authority has another key than the trusted one of \
             that name: check the CA file",
        ),
        BadEncoding => identity("the peer's certificate cannot be read: it must be X.509 version 3"),
        _ => identity("the peer's certificate uses something that is not supported"),
    }
}

fn of_alert(alert: AlertDescription, counters: &mut Counters) -> Fault {
    use AlertDescription::*;
    match alert {
        NoApplicationProtocol => return no_alpn(counters),
        _ => counters.refused_by_peer += 1,
    }
    match alert {
        UnknownCA
        | BadCertificate
        | CertificateUnknown
        | CertificateExpired
        | CertificateRevoked
        | UnsupportedCertificate
        | AccessDenied
        | DecryptError => tls(format!(
            "the peer does not trust our certificate or key ({alert:?}): check what it pins or enrolled"
        )),
        CertificateRequired => {
            tls("the peer demands a certificate of ours: configure a key and enrol it there")
        }
        ProtocolVersion | HandshakeFailure | InsufficientSecurity => tls(format!(
            "the peer has no TLS version or cipher in common with us ({alert:?}), 1.2 or 1.3 is needed"
        )),
        _ => tls(format!("the peer ended the connection with the TLS alert {alert:?}")),
    }
}

fn tls(detail: impl Into<String>) -> Fault {
    Fault::new(Status::Tls, detail)
}

fn identity(detail: impl Into<String>) -> Fault {
    Fault::new(Status::Identity, detail)
}
