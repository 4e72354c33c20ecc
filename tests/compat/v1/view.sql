-- SQLite 3.40.1
PRAGMA application_id = 1785886327;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE attempts (
  n INTEGER NOT NULL, chain INTEGER NOT NULL, copy INTEGER NOT NULL, started_at REAL NOT NULL,
  number INTEGER NOT NULL, worker TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, ended_at REAL NOT NULL,
  outcome INTEGER NOT NULL, error TEXT NOT NULL, stdout TEXT NOT NULL, stderr TEXT NOT NULL,
  PRIMARY KEY (n, chain, copy, started_at)) WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,0,1,1799999950.0,1,'web3-91c0','web3',77,1799999960.0,2,'{"reason":"error","message":"read timed out","class":"TimeoutError","traceback":"Traceback (most recent call last):\n  File \"/app/fetch.py\", line 31, in fetch\n    get()\n"}','{"head":"first\n","tail":"last\n","total_bytes":200000}','{"head":"first\n","tail":"last\n","total_bytes":200000}');
INSERT INTO "attempts" VALUES(1,0,2,1799999950.0,2,'web3-91c0','web3',77,1799999960.0,5,'','{"head":"first\n","tail":"last\n","total_bytes":200000}','{"head":"first\n","tail":"last\n","total_bytes":200000}');
INSERT INTO "attempts" VALUES(1,0,2,1799999981.0,2,'web3-91c0','web3',77,1799999985.0,1,'','','');
INSERT INTO "attempts" VALUES(2,0,0,1799999950.0,0,'web3-91c0','web3',77,1799999960.0,3,'','{"head":"first\n","tail":"last\n","total_bytes":200000}','{"head":"first\n","tail":"last\n","total_bytes":200000}');
INSERT INTO "attempts" VALUES(3,0,0,1799999950.0,1,'web3-91c0','web3',77,1799999960.0,4,'{"reason":"error","message":"read timed out","class":"TimeoutError","traceback":"Traceback (most recent call last):\n  File \"/app/fetch.py\", line 31, in fetch\n    get()\n"}','{"head":"first\n","tail":"last\n","total_bytes":200000}','{"head":"first\n","tail":"last\n","total_bytes":200000}');
INSERT INTO "attempts" VALUES(5,0,0,1799999996.0,1,'web3-91c0','web3',77,0.0,0,'','','');
CREATE TABLE cancels (
  target TEXT NOT NULL, chain INTEGER NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL, by TEXT,
  PRIMARY KEY (target, chain)) WITHOUT ROWID;
INSERT INTO "cancels" VALUES('id:k7f2c01b5vxe9a2s',0,1799999988.0,'typo','ana@mbp');
INSERT INTO "cancels" VALUES('id:p3h8w2ac1n5kv7t2',1,1799999988.0,'typo','ana@mbp');
INSERT INTO "cancels" VALUES('run:other',0,1799999988.0,'typo','ana@mbp');
CREATE TABLE holes (first_offset INTEGER PRIMARY KEY, last_offset INTEGER NOT NULL, noticed_at REAL NOT NULL);
CREATE TABLE jobs (
  n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
  chain INTEGER NOT NULL, rank INTEGER NOT NULL, s_copy INTEGER NOT NULL, final INTEGER NOT NULL, run_at REAL NOT NULL,
  phase INTEGER NOT NULL, tie REAL NOT NULL,
  state TEXT NOT NULL, state_at REAL NOT NULL, d_copy INTEGER NOT NULL, due_at REAL,
  error TEXT, frame TEXT, place TEXT, cause TEXT, result_bytes INTEGER, truncated INTEGER NOT NULL,
  first_at REAL NOT NULL, born REAL NOT NULL, done_at REAL, attempt INTEGER NOT NULL,
  r_copy INTEGER NOT NULL, started_at REAL, ended_at REAL, worker TEXT, host TEXT, pid INTEGER,
  q_chain INTEGER NOT NULL, q_copy INTEGER NOT NULL, q_at REAL NOT NULL,
  name TEXT, queue TEXT NOT NULL, priority INTEGER NOT NULL, run TEXT, user TEXT, tags TEXT, created_at REAL,
  body BLOB, result BLOB);
INSERT INTO "jobs" VALUES(1,'k7f2m9xq4tzd8w1r',0,4,2,0,1799999950.0,0,-1799999991.0,'succeeded',1799999991.0,2,1799999980.0,NULL,NULL,NULL,NULL,9,1,1799999900.0,1799999900.0,1799999991.0,2,2,1799999981.0,1799999985.0,'web3-91c0','web3',77,0,0,1799999900.0,'tasks.fetch','task_queue',8,'nightly','ana@mbp','["import"]',1799999900.0,X'7B2276223A312C226964223A226B3766326D39787134747A6438773172222C227175657565223A227461736B5F7175657565222C22696174223A313739393939393930302E302C227461736B223A227461736B733A6665746368222C2261726773223A5B22612E6A7067225D2C226B7761726773223A7B227769647468223A3830307D2C226D61785F617474656D707473223A342C2272756E223A226E696768746C79222C2274616773223A5B22696D706F7274225D2C2275736572223A22616E61406D6270227D',X'7B2261223A5B315D7D');
INSERT INTO "jobs" VALUES(2,'k7f2c01b5vxe9a2s',0,2,0,0,1799999950.0,0,-1799999989.0,'cancelled',1799999989.0,0,1799999900.0,'{"reason":"cancelled","message":"typo by ana@mbp","signal":"SIGTERM"}',NULL,NULL,NULL,NULL,0,1799999900.0,1799999900.0,1799999989.0,0,0,1799999950.0,1799999960.0,'web3-91c0','web3',77,0,0,1799999900.0,'/ffmpeg','video',4,NULL,'ana@mbp',NULL,1799999900.0,X'7B2276223A312C226964223A226B376632633031623576786539613273222C227175657565223A22766964656F222C22696174223A313739393939393930302E302C2261726776223A5B2266666D706567222C222D69222C22696E2E6D6F76225D2C2275736572223A22616E61406D6270227D',NULL);
INSERT INTO "jobs" VALUES(3,'p3h8w2ac1n5kv7t2',1,0,2,0,0.0,0,-1799999980.0,'queued',1799999980.0,2,1799999980.0,NULL,NULL,NULL,NULL,NULL,0,1799999910.0,1799999980.0,NULL,0,-1,NULL,NULL,NULL,NULL,NULL,1,2,1799999980.0,'tasks.fetch','task_queue',4,NULL,'ana@mbp',NULL,1799999980.0,X'7B2276223A312C226964223A227033683877326163316E356B76377432222C227175657565223A227461736B5F7175657565222C22696174223A313739393939393938302E302C227461736B223A227461736B733A6665746368222C2275736572223A22616E61406D6270227D',NULL);
INSERT INTO "jobs" VALUES(4,'0000000000000000',0,1,0,0,0.0,0,-1799999995.0,'expired',1799999995.0,-1,NULL,'{"reason":"expired","message":"no worker started it in time"}',NULL,NULL,NULL,NULL,0,1799999995.0,1799999995.0,1799999995.0,0,-1,NULL,NULL,NULL,NULL,NULL,-1,-1,0.0,NULL,'',4,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(5,'h4m2x0v81srqn5k3',0,0,0,0,1799999996.0,3,0.0,'running',1799999996.0,-1,NULL,NULL,NULL,NULL,NULL,NULL,0,1799999997.0,1799999997.0,NULL,1,0,1799999996.0,NULL,'web3-91c0','web3',77,-1,-1,0.0,NULL,'',4,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE logs (
  n INTEGER NOT NULL, started_at REAL NOT NULL, stream TEXT NOT NULL, offset_bytes INTEGER NOT NULL,
  at REAL NOT NULL, attempt INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (n, started_at, stream, offset_bytes)) WITHOUT ROWID;
INSERT INTO "logs" VALUES(1,1799999950.0,'out',0,1799999951.0,1,'first
');
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO "meta" VALUES('genesis','5f0e5f0e5f0e5f0e');
INSERT INTO "meta" VALUES('name','h4m2x0v81srqn5k3.0.started');
INSERT INTO "meta" VALUES('offset',20);
CREATE TABLE progress (
  n INTEGER PRIMARY KEY, chain INTEGER NOT NULL, copy INTEGER NOT NULL, at REAL NOT NULL, fraction REAL, text TEXT);
INSERT INTO "progress" VALUES(1,0,1,1799999955.0,0.4,'reading');
CREATE TABLE unknown ("offset" INTEGER PRIMARY KEY, at REAL, kind TEXT NOT NULL, id TEXT, body BLOB NOT NULL);
CREATE TABLE workers (name TEXT PRIMARY KEY, started_at REAL NOT NULL, at REAL NOT NULL, last TEXT NOT NULL,
  online_at REAL NOT NULL, online TEXT);
INSERT INTO "workers" VALUES('web3-91c0',1799999000.0,1799999996.0,'{"kind":"worker","at":1799999996.0,"phase":"heartbeat","name":"web3-91c0","host":"web3","pid":77,"version":"0.1.0","python":"3.11.7","slots":4,"busy":2,"queues":["task_queue"],"started_at":1799999000.0}',1799999000.0,'{"kind":"worker","at":1799999995.0,"phase":"online","name":"web3-91c0","host":"web3","pid":77,"version":"0.1.0","python":"3.11.7","slots":4,"busy":1,"queues":["task_queue"],"started_at":1799999000.0,"done":7,"functions":["tasks:fetch"],"allow_commands":true,"allow_import":["shop"]}');
INSERT INTO "workers" VALUES('old',1799999000.0,1799999995.0,'{"kind":"worker","at":1799999995.0,"phase":"offline","name":"old","host":"web3","pid":77,"version":"0.1.0","python":"3.11.7","slots":4,"busy":1,"queues":["task_queue"],"started_at":1799999000.0}',0.0,NULL);
CREATE INDEX jobs_state ON jobs (state, born, queue, due_at);
CREATE INDEX jobs_born ON jobs (born);
CREATE INDEX jobs_done ON jobs (done_at);
CREATE INDEX jobs_run ON jobs (run) WHERE run IS NOT NULL;
CREATE INDEX jobs_cause ON jobs (cause) WHERE cause IS NOT NULL;
CREATE INDEX unknown_id ON unknown (id) WHERE id IS NOT NULL;
COMMIT;
