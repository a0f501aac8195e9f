//! An identity provider: a token endpoint that answers as a test says, and unsecured JWTs. Also a broker that takes
//! them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use crate::broker::{Broker, free_ports};

/// What the endpoint does with a request.
#[derive(Debug, Clone)]
pub enum Granting {
    /// 200, with an unsecured JWT of this subject and life.
    Jwt(String, Duration),
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// No answer, and an open connection.
    Silence,
}

impl Granting {
    /// An answer with this status line's rest and body, as JSON.
    pub fn json(status: &str, body: &str) -> Self {
        Self::with_headers(status, "Content-Type: application/json\r\n", body)
    }

    /// The same with other headers, each with its end of line.
    pub fn with_headers(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Raw(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes())
    }
}

/// An unsecured JWT (`alg` is `none`).
pub fn unsecured_jwt(subject: &str, issued_at: SystemTime, expires_at: SystemTime) -> String {
    let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let claims = json!({ "sub": subject, "iat": seconds(issued_at), "exp": seconds(expires_at) });
    let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
    format!("{}.{}.", part(json!({ "alg": "none" }).to_string()), part(claims.to_string()))
}

/// A broker with two more listeners that want a token, and accept each unsecured JWT that has not expired.
#[derive(Debug)]
pub struct OauthBroker {
    pub broker: Broker,
    /// host:port of a listener that closes each connection whose client does not authenticate again within three
    /// seconds, with a token that is valid then.
    pub address: String,
    /// host:port of a listener with Kafka's default of connections.max.reauth.ms, which is 0.
    pub default_address: String,
}

impl OauthBroker {
    /// # Panics
    /// As [`Broker::start`].
    pub fn start() -> Self {
        let [address, default_address] = free_ports().map(|port| format!("127.0.0.1:{port}"));
        let (inside, outside) =
            ("PLAINTEXT://127.0.0.1:{port}", format!("OAUTH://{address},DEFAULT://{default_address}"));
        let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
        let jaas = format!("{module} required unsecuredLoginStringClaim_sub=\"broker\";");
        let protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,OAUTH:SASL_PLAINTEXT,DEFAULT:SASL_PLAINTEXT";
        let broker = Broker::start_with(&[
            ("listeners", &format!("{inside},CONTROLLER://127.0.0.1:{{controller}},{outside}")),
            ("advertised.listeners", &format!("{inside},{outside}")),
            ("listener.security.protocol.map", protocols),
            ("sasl.enabled.mechanisms", "OAUTHBEARER"),
            ("listener.name.oauth.oauthbearer.sasl.jaas.config", &jaas),
            ("listener.name.default.oauthbearer.sasl.jaas.config", &jaas),
            ("listener.name.oauth.oauthbearer.connections.max.reauth.ms", "3000"),
        ]);
        Self { broker, address, default_address }
    }
}

#[derive(Debug)]
struct Shared {
    granting: Mutex<Granting>,
    /// The heads and forms.
    requests: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// A token endpoint on the loopback interface.
#[derive(Debug)]
pub struct IdentityProvider {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl IdentityProvider {
    /// # Panics
    /// If no port is free.
    pub fn start(granting: Granting) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            granting: Mutex::new(granting),
            requests: Mutex::default(),
            stopped: AtomicBool::default(),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(stream), serving) = (stream, serving.clone()) else { return };
                thread::spawn(move || serving.answer(stream));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// What later requests are answered with.
    pub fn grant(&self, granting: Granting) {
        *self.shared.granting.lock().expect("no panic") = granting;
    }

    /// The heads and forms of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("no panic").clone()
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) {
        let Some(request) = read_request(&mut stream) else { return };
        self.requests.lock().expect("no panic").push(request);
        let granting = self.granting.lock().expect("no panic").clone();
        let bytes = match granting {
            Granting::Jwt(subject, life) => {
                let now = SystemTime::now();
                let token = unsecured_jwt(&subject, now, now + life);
                let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": life.as_secs() });
                match Granting::json("200 OK", &body.to_string()) {
                    Granting::Raw(bytes) => bytes,
                    _ => return,
                }
            }
            Granting::Raw(bytes) => bytes,
            Granting::Silence => {
                // Until the client leaves.
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        let _ = stream.write_all(&bytes);
    }
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let (mut text, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let shown = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, form)) = shown.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
            if form.len() >= length {
                return Some(shown);
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(n) => text.extend_from_slice(&part[..n]),
        }
    }
}
