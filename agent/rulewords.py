"""What the detectors' rules and the fields of their events are called for people: a few words each, in both languages.

Law: words only; the alerts say more (alerts/rules). What isn't here is shown by its own name.
"""

from collections.abc import Mapping

from agent.texts import Lang, Text

RULES: Mapping[str, Text] = {
    "gateway_mac": Text("identitas router kantor berubah", "the office router's identity changed"),
    "ip_conflict": Text("satu alamat dipakai dua perangkat", "two devices use one address"),
    "arp_anomaly": Text("pesan ARP yang janggal", "odd ARP messages"),
    "arp_poisoning": Text("lalu lintas kantor mungkin disadap", "the office's traffic may be intercepted"),
    "arp_sweep": Text("ada yang menyisir jaringan kantor", "somebody sweeps the office's network"),
    "new_device": Text("perangkat baru di jaringan kantor", "a new device on the office's network"),
    "neighbour_drift": Text("router atau switch mengaku lain dari biasanya", "a router or switch says it is another than before"),
    "broadcast_storm": Text("jaringan kantor dibanjiri (kabel melingkar?)", "broadcast storm (a loop of cables?)"),
    "rogue_dhcp": Text("ada pembagi alamat (DHCP) asing", "an unknown DHCP server"),
    "dhcp_starvation": Text("alamat jaringan dihabiskan (DHCP)", "somebody takes all addresses (DHCP)"),
    "service_lost": Text("layanan jaringan kantor hilang (DHCP atau router)", "DHCP or the router is gone"),
    "rogue_ra": Text("ada router IPv6 asing", "an unknown IPv6 router"),
    "port_scan": Text("kotak Ronda dipindai", "this box is being scanned"),
    "tripwire": Text("pintu jebakan kotak Ronda disentuh", "a tripwire of this box was touched"),
    "flood": Text("kotak Ronda dibanjiri sambungan", "this box is being flooded"),
    "name_poisoner": Text("ada yang memalsukan nama komputer", "somebody answers for names that don't exist"),
    "brute_force": Text("ada yang menebak sandi kotak Ronda", "somebody guesses passwords of this box"),
    "new_listener": Text("program baru menunggu sambungan di kotak Ronda", "a new program listens on this box"),
    "accounts_changed": Text("akun pemakai di kotak Ronda berubah", "accounts of this box changed"),
    "sudoers_changed": Text("hak sudo di kotak Ronda berubah", "sudo rights of this box changed"),
    "keys_changed": Text("kunci masuk kotak Ronda berubah", "keys that may log in here changed"),
    "persistence_changed": Text("program yang berjalan sendiri di kotak berubah", "what starts by itself on this box changed"),
    "setuid_new": Text("program berhak root baru di kotak Ronda", "a new setuid program on this box"),
    "firewall_off": Text("tembok api kotak Ronda mati", "the firewall of this box is off"),
    "updates_pending": Text("pembaruan keamanan kotak Ronda tertunda", "security updates of this box wait"),
    "clock_wrong": Text("jam kotak Ronda salah atau tak disetel", "the clock of this box is wrong"),
    "root_disk": Text("kartu memori kotak Ronda rusak", "the disk of this box fails"),
    "usb_device": Text("perangkat USB baru di kotak Ronda", "a new USB device on this box"),
    "router_login_failures": Text("ada yang menebak sandi router", "somebody guesses the router's passwords"),
    "router_login": Text("ada yang masuk ke router di luar kebiasaan", "an unusual login to the router"),
    "router_changed": Text("setelan router kantor diubah", "the router's settings were changed"),
    "router_scanned": Text("komputer di kantor mencoba-coba pintu router", "a computer tries the router's ports"),
    "router_silent": Text("router tidak lagi mengirim catatan", "the router sends no log any more"),
    "router_exposed": Text("router terbuka bagi siapa saja", "the router is open to anybody"),
    "device_drift": Text("perangkat jaringan bukan seperti yang tercatat", "a network device isn't what it was"),
    "trap_auth_failure": Text("ada yang salah sandi SNMP", "somebody asks by SNMP with a wrong password"),
    "trap_link_down": Text("sambungan perangkat jaringan putus", "a link of a network device is down"),
    "trap_cold_start": Text("perangkat jaringan menyala ulang", "a network device started again"),
}
FIELDS: Mapping[str, Text] = {
    "source.mac": Text("perangkat (MAC)", "device (MAC)"),
    "source.ip": Text("alamat asal", "source address"),
    "source.port": Text("port asal", "source port"),
    "destination.ip": Text("alamat tujuan", "destination"),
    "destination.port": Text("port tujuan", "destination port"),
    "server.ip": Text("alamat layanan", "served address"),
    "server.port": Text("port layanan", "served port"),
    "network.transport": Text("protokol", "protocol"),
    "host.hostname": Text("nama perangkat", "device's name"),
    "user.name": Text("pemakai", "user"),
    "user.id": Text("nomor pemakai", "user id"),
    "process.executable": Text("program", "program"),
    "file.path": Text("berkas", "file"),
    "file.hash.sha256": Text("sidik berkas", "file's hash"),
    "file.mode": Text("hak berkas", "file's mode"),
    "file.owner": Text("pemilik berkas", "file's owner"),
    "event.id": Text("nomor", "incident"),
    "rule.id": Text("katalog", "catalogue"),
    "threat.technique.id": Text("teknik ATT&CK", "ATT&CK technique"),
    "ronda.grade": Text("tingkat", "grade"),
    "ronda.confidence": Text("keyakinan", "confidence"),
    "ronda.state": Text("keadaan", "state"),
    "ronda.evidence": Text("paket bukti", "packets kept"),
    "ronda.where": Text("di mana", "where"),
    "ronda.ip": Text("alamat", "address"),
    "ronda.mac_a": Text("perangkat pertama", "first device"),
    "ronda.mac_b": Text("perangkat kedua", "second device"),
    "ronda.oui": Text("pembuat (awal MAC)", "maker (part of the MAC)"),
    "ronda.equipment": Text("jenis", "kind"),
    "ronda.targets": Text("alamat yang dicari", "addresses asked for"),
    "ronda.dark_ratio": Text("bagian yang kosong", "share of empty ones"),
    "ronda.seconds": Text("lama (detik)", "seconds"),
    "ronda.ports": Text("port tertutup yang dicoba", "closed ports tried"),
    "ronda.score": Text("skor", "score"),
    "ronda.addresses": Text("banyak alamat", "addresses used"),
    "ronda.distinct_macs": Text("peminta alamat", "clients"),
    "ronda.discovers": Text("permintaan", "requests"),
    "ronda.dhcp_server": Text("pembagi alamat", "DHCP server"),
    "ronda.dhcp_known": Text("pembagi yang dikenal", "known servers"),
    "ronda.dhcp_router": Text("router yang dibagikan", "router that it gives"),
    "ronda.dhcp_dns": Text("DNS yang dibagikan", "resolver that it gives"),
    "ronda.device": Text("perangkat jaringan", "network device"),
    "ronda.via": Text("lewat", "by way of"),
    "ronda.written": Text("waktu menurut perangkat", "time as the device wrote it"),
    "ronda.new_source": Text("dari tempat baru", "from a new place"),
    "ronda.in_hours": Text("pada jam kerja", "in working hours"),
    "ronda.areas": Text("bagian yang diubah", "what was changed"),
    "ronda.change": Text("perubahan", "change"),
    "ronda.silent_seconds": Text("diam selama (detik)", "silent for (seconds)"),
    "ronda.usual_seconds": Text("batas kebiasaannya (detik)", "limit of its habit (seconds)"),
    "ronda.suppressed_by": Text("diterima oleh", "accepted by"),
    "ronda.failures": Text("kali gagal", "failures"),
    "ronda.accounts": Text("banyak akun", "accounts tried"),
    "service.name": Text("layanan", "service"),
    "task": Text("tugas", "task"),
    "target": Text("sasaran", "target"),
    "device": Text("kartu jaringan", "network device"),
    "problem": Text("masalah", "problem"),
    "reason": Text("sebab", "reason"),
    "site": Text("kantor", "office"),
    "name": Text("nama", "name"),
}
VALUES: Mapping[str, Mapping[str, Text]] = {
    "ronda.grade": {
        "critical": Text("kritis", "critical"),
        "high": Text("tinggi", "high"),
        "medium": Text("sedang", "medium"),
        "low": Text("rendah", "low"),
        "info": Text("catatan", "info"),
    },
    "ronda.confidence": {
        "certain": Text("pasti", "certain"),
        "likely": Text("mungkin", "likely"),
        "unknown": Text("belum tahu", "unknown"),
    },
    "ronda.state": {
        "open": Text("terbuka", "open"),
        "update": Text("terlihat lagi", "seen again"),
        "closed": Text("selesai", "over"),
        "learning": Text("masih belajar", "learning"),
    },
}


def rule(name: str, lang: Lang) -> str:
    return RULES[name].of(lang) if name in RULES else name


def field(name: str, lang: Lang) -> str:
    return FIELDS[name].of(lang) if name in FIELDS else name


def value(name: str, text: str, lang: Lang) -> str:
    known = VALUES.get(name, {})
    return known[text].of(lang) if text in known else text
