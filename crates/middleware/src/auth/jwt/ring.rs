//! The cryptography of the library for tokens, by the ring that TLS is done with: it verifies, and signs nothing.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{Error as Refused, Verifier},
};
use ring::{hmac, signature as public};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| unsupported(),
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| unsupported(),
        rsa_pub_components_from_public_key: |_| unsupported(),
        ec_pub_components_from_private_key: |_, _| unsupported(),
        ed_pub_components_from_private_key: |_, _| unsupported(),
        compute_digest: |_, _| unsupported(),
    },
};

/// Makes it the process' own, unless whoever embeds the gateway chose another before.
pub(super) fn install() {
    // Refused where there is one: then that verifies.
    let _ = PROVIDER.install_default();
}

fn unsupported<T>() -> Result<T> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

/// A key and the one algorithm it is used with.
struct Ring {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Secret(hmac::Key),
    Public(public::UnparsedPublicKey<Vec<u8>>),
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    // Whatever a token says of its algorithm, a key is used as what it is (CVE-2016-10555).
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = match (algorithm.family(), key.kind()) {
        (AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
            Key::Secret(hmac::Key::new(hash(*algorithm)?, secret))
        }
        (_, DecodingKeyKind::SecretOrDer(bytes)) => {
            Key::Public(public::UnparsedPublicKey::new(verification(*algorithm)?, bytes.clone()))
        }
        // Keys come in PEM form, and so as DER.
        (_, DecodingKeyKind::RsaModulusExponent { .. }) => return Err(ErrorKind::InvalidKeyFormat.into()),
    };
    Ok(Box::new(Ring { algorithm: *algorithm, key }))
}

fn hash(algorithm: Algorithm) -> Result<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Ok(hmac::HMAC_SHA256),
        Algorithm::HS384 => Ok(hmac::HMAC_SHA384),
        Algorithm::HS512 => Ok(hmac::HMAC_SHA512),
        _ => unsupported(),
    }
}

fn verification(algorithm: Algorithm) -> Result<&'static dyn public::VerificationAlgorithm> {
    match algorithm {
        Algorithm::RS256 => Ok(&public::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Ok(&public::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Ok(&public::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Ok(&public::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Ok(&public::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Ok(&public::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Ok(&public::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Ok(&public::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Ok(&public::ED25519),
        _ => unsupported(),
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Refused> {
        let verified = match &self.key {
            Key::Secret(key) => hmac::verify(key, message, signature),
            Key::Public(key) => key.verify(message, signature),
        };
        verified.map_err(|_| Refused::new())
    }
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
