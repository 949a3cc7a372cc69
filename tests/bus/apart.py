"""APART: each test of CherryPy and of cheroot that does not hold for kirsch's HTTP server, and why.

They are run, and expected to fail: it is an error when one passes. Those whose reason is among NOT_RUN are
not run. A name that no test has is an error, too.
"""

_INSIDE = "it replaces or reads what is inside cheroot"
_NO_WSGI = "it tests cheroot's server without WSGI, by what is inside"
_POOL = "it tests cheroot's pool of threads"
_ADAPTER = "it tests cheroot's TLS adapters, with pyOpenSSL; kirsch has ssl.SSLContext (test_http_tls.py)"
_ENDS = "no exception of an application ends the server: 500"
_PROCESS = "it tests CherryPy's own server, in a process that it starts"
_PORTS = "its ports are fixed, and it asks for cheroot's class by name"
_SECOND = "it fails where the machine is slower than the second, or the part of one, that it allows"
_MAY_FAIL = "CherryPy knows that it may fail (its issue 1536)"
_MEMCACHED = "it needs memcached"
NOT_RUN = {_INSIDE, _NO_WSGI, _POOL, _ADAPTER, _ENDS, _PROCESS, _PORTS, _SECOND, _MEMCACHED, _MAY_FAIL}
_CONNECT = "CONNECT is for proxies: 501"
_OTHER_HOST = "a target whose authority differs from Host is refused: 400"
_AT_ONCE = "the head that is sent is malformed (its first line has no end), and refused at once: 400"
APART = {
    "cheroot.test.test_conn": {
        "test_HTTP11_Timeout[False]": _AT_ONCE,
        "test_broken_connection_during_http_communication_fallback": _INSIDE,
        "test_broken_connection_during_tcp_fin": _INSIDE,
        "test_invalid_selected_connection": _INSIDE,
        "test_kb_int_from_http_handler": _ENDS,
        "test_keepalive": "answers say HTTP/1.1, so Connection: close is said to clients of HTTP/1.0 too",
        "test_keepalive_conn_management": _INSIDE,
        "test_remains_alive_post_unhandled_exception": _INSIDE,
        "test_streaming_10[False]": "the body is a list, whose length is known and said",
        "test_streaming_11[False]": "the body is a list, whose length is known and said",
        "test_unhandled_exception_in_request_handler": _INSIDE,
    },
    "cheroot.test.test_core": {
        "test_http_connect_request": _CONNECT,
        "test_malformed_http_method": "cheroot has words for a method that is malformed",
        "test_malformed_request_line[GET / HTTP/2.15-505-Cannot fulfill request]": "2.15 is no version: 400",
        "test_parse_uri_asterisk_uri": "PATH_INFO is what was sent, `*`; cheroot puts a slash before it",
        "test_parse_uri_unsafe_uri": "it sends no Host: 400",
        "test_send_header_before_closing": _INSIDE,
    },
    "cheroot.test.test_server": {
        "test_bind_addr_inet": _NO_WSGI,
        "test_bind_addr_unix": _NO_WSGI,
        "test_bind_addr_unix_abstract": _NO_WSGI,
        "test_high_number_of_file_descriptors": _NO_WSGI,
        "test_overload_results_in_suitable_http_error": _NO_WSGI,
        "test_overload_thread_does_not_leak": _NO_WSGI,
        "test_peercreds_unix_sock": _NO_WSGI,
        "test_peercreds_unix_sock_with_lookup": _NO_WSGI,
        "test_prepare_makes_server_ready": _NO_WSGI,
        "test_reuse_port": _NO_WSGI,
        "test_server_interrupt": _NO_WSGI,
        "test_serving_is_false_and_stop_returns_after_ctrlc": _NO_WSGI,
        "test_stop_interrupts_serve": _NO_WSGI,
        "test_threadpool_invalid_threadrange": _POOL,
        "test_threadpool_multistart_validation": _POOL,
        "test_threadpool_threadrange_set": _POOL,
    },
    "cheroot.test.test_ssl": {
        "test_builtin_adapter_with_false_key_password": _ADAPTER,
        "test_http_over_https_error": _ADAPTER,
        "test_https_over_http_error": _ADAPTER,
        "test_openssl_adapter_with_false_key_password": _ADAPTER,
        "test_ssl_adapters": _ADAPTER,
        "test_ssl_adapters_with_private_key_password": _ADAPTER,
        "test_ssl_env": _ADAPTER,
        "test_tls_client_auth": _ADAPTER,
    },
    "cheroot.test.test_wsgi": {
        "test_gateway_start_response_called_twice": _INSIDE,
        "test_gateway_write_needs_start_response_called_before": _INSIDE,
    },
    "cherrypy.test.test_bus": {
        "test_block": _SECOND,
        "test_start_with_callback": _SECOND,
        "test_wait_publishes_periodically": _SECOND,
    },
    "cherrypy.test.test_caching": {
        "test_antistampede": _MAY_FAIL,
    },
    "cherrypy.test.test_config_server": {
        "testAdditionalServers": _PORTS,
        "testBasicConfig": _PORTS,
        "testMaxRequestSize": _PORTS,  # and of a long head it wants 413, where RFC 6585 has 431
        "testMaxRequestSizePerHandler": _PORTS,
    },
    "cherrypy.test.test_conn": {
        "test_Chunked_Encoding": "it sends both Content-Length and Transfer-Encoding: 400",
        "test_HTTP11_Timeout": _AT_ONCE,
        "test_queue_full": "half requests hold no thread, so the sixteenth client is answered",
    },
    "cherrypy.test.test_request_obj": {
        "testAbsoluteURIPathInfo": _OTHER_HOST,
        "test_CONNECT_method": _CONNECT,
        "test_CONNECT_method_invalid_authority": _CONNECT,
        "test_dangerous_host": "a Host that is no host and port is refused: 400",
    },
    "cherrypy.test.test_session": {
        "MemcachedSessionTest.test_0_Session": _MEMCACHED,
        "MemcachedSessionTest.test_1_Concurrency": _MEMCACHED,
        "MemcachedSessionTest.test_3_Redirect": _MEMCACHED,
        "MemcachedSessionTest.test_5_Error_paths": _MEMCACHED,
        "MemcachedSessionTest.test_gc": _MEMCACHED,
        "SessionTest.test_0_Session": _SECOND,
        "SessionTest.test_1_Ram_Concurrency": _SECOND,
        "SessionTest.test_2_File_Concurrency": _SECOND,
        "SessionTest.test_3_Redirect": _SECOND,
        "SessionTest.test_4_File_deletion": _SECOND,
        "SessionTest.test_6_regenerate": _SECOND,
        "SessionTest.test_7_session_cookies": _SECOND,
        "SessionTest.test_8_Ram_Cleanup": _SECOND,
    },
    "cherrypy.test.test_states": {
        "test_0_NormalStateFlow": _SECOND,
        "test_1_Restart": _SECOND,
        "test_2_KeyboardInterrupt": _ENDS,
        "test_4_Autoreload": _PROCESS,
        "test_5_Start_Error": _PROCESS,
        "test_SIGHUP_daemonized": _PROCESS,
        "test_SIGHUP_tty": _PROCESS,
        "test_SIGTERM": _PROCESS,
        "test_daemonize": _PROCESS,
        "test_signal_handler_unsubscribe": _PROCESS,
    },
    "cherrypy.test.test_static": {
        "test_null_bytes": "NUL in a target is refused: 400",
    },
}  # fmt: skip
