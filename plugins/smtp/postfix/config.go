package postfix

import "text/template"

var mainCf = template.Must(template.New("main.cf").Parse(`compatibility_level = 3.6
queue_directory = {{.Dir}}/queue
data_directory = {{.Dir}}/data
command_directory = /usr/sbin
daemon_directory = {{.Daemons}}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {{.Dir}}/log
maillog_file_prefixes = {{.Dir}}
enable_long_queue_ids = yes
myhostname = mail.hookline.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
relay_domains =
default_transport = error:5.1.2 this server delivers only to its own mailboxes
virtual_mailbox_domains = {{.Domain}}
virtual_mailbox_maps = regexp:{{.Dir}}/conf/mailboxes
virtual_mailbox_base = {{.Dir}}/mail
virtual_uid_maps = static:{{.Nobody}}
virtual_gid_maps = static:{{.Nobody}}
virtual_mailbox_limit = 0
message_size_limit = {{.Size}}
mailbox_size_limit = 0
queue_minfree = 0
smtpd_banner = $myhostname ESMTP
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
transport_retry_time = 1s
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient
{{if .Options.Password -}}
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = {{.Domain}}
smtpd_sasl_security_options = noanonymous
cyrus_sasl_config_path = {{.Dir}}/conf/sasl
smtpd_client_restrictions = permit_sasl_authenticated, reject
{{end}}
{{- if .Options.CertFile -}}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {{.Options.CertFile}}
smtpd_tls_key_file = {{.Options.KeyFile}}
smtpd_tls_auth_only = yes
{{end}}
{{- if .Policy -}}
smtpd_end_of_data_restrictions = check_policy_service inet:{{.Policy}}
smtpd_policy_service_timeout = 100s
smtpd_policy_service_try_limit = 1
{{end}}
{{- range $name, $value := .Options.Mains -}}
{{$name}} = {{$value}}
{{end}}`))

var masterCf = template.Must(template.New("master.cf").Parse(`{{.Addr}} inet n - n - - smtpd
{{if .TLSAddr -}}
{{.TLSAddr}} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
{{end -}}
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`))

var mailboxes = template.Must(template.New("mailboxes").Parse(`/^in-[a-z0-9-]+@hookline\.test$/ all/
`))

var saslConf = template.Must(template.New("smtpd.conf").Parse(`pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {{.Dir}}/conf/sasl/sasldb2
mech_list: PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-256
`))
