# Varnish in front of two jobcast processes. Nothing of jobcast is for a cache: it is passed on as it
# comes. One that drains says so in /readyz and gets nothing new.
vcl 4.1;

import directors;

probe readiness {
  .url = "/readyz";
  .interval = 1s;
  .timeout = 2s;
  .window = 2;
  .threshold = 1;
  .initial = 1;
}

backend one {
  .host = "127.0.0.1";
  .port = "3001";
  .probe = readiness;
  .connect_timeout = 2s;
  # A long poll may wait for a minute; on a stream something comes every 8 s (HEARTBEAT_SECONDS).
  .first_byte_timeout = 75s;
  .between_bytes_timeout = 75s;
}

backend two {
  .host = "127.0.0.1";
  .port = "3002";
  .probe = readiness;
  .connect_timeout = 2s;
  .first_byte_timeout = 75s;
  .between_bytes_timeout = 75s;
}

sub vcl_init {
  new jobcast = directors.round_robin();
  jobcast.add_backend(one);
  jobcast.add_backend(two);
}

sub vcl_recv {
  # For operators, not for the public.
  if (req.url ~ "^/metrics") {
    return (synth(404));
  }
  set req.backend_hint = jobcast.backend();
  return (pass);
}

sub vcl_backend_error {
  # A process that is gone did nothing with the request: the other one is asked.
  if (bereq.retries < 2 && bereq.method == "GET") {
    return (retry);
  }
}

sub vcl_backend_response {
  set beresp.do_stream = true;
  # Answers; streams are left as they are.
  if (beresp.http.Content-Type ~ "json") {
    set beresp.do_gzip = true;
  }
}
