"""Every error a person can meet: its stable code, its exit code, its sentence and what to paste next.

One class for a row of the catalogue. `text` and `hint` are templates over the fields given to the constructor, so that
a test can render each row and the sentences stay in one place.
"""

from typing import ClassVar


class JobrunnerError(Exception):
    """Root of the tree. Raised itself only for what has no row: the text is given whole.

    Fields: keyword arguments that `text` and `hint` name. A field may be any object; it is shown with `str`.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    text: ClassVar[str] = "{message}"
    hint_text: ClassVar[str] = ""

    def __init__(self, *, hint: str | None = None, **fields: object) -> None:
        self.fields = fields
        self.message = self.text.format_map(fields)
        self.hint = self.hint_text.format_map(fields) if hint is None else hint
        super().__init__(self.message)


class BrokerError(JobrunnerError):
    """The broker cannot be reached, refuses or is blocked."""

    code = "broker_error"
    exit_code = 3


class UsageError(JobrunnerError):
    """What was typed or configured cannot be done; nothing happened."""

    code = "usage"
    exit_code = 2


class PartlyDone(JobrunnerError):
    """Done in part, or not confirmed."""

    code = "partly_done"
    exit_code = 5


# --- exit 3: the broker ---------------------------------------------------------------------------------------------


class BrokerRefused(BrokerError):
    """address: host:port."""

    code = "broker_refused"
    text = "Cannot reach the broker at {address}: connection refused."
    hint_text = "jobrunner dev · set JOBRUNNER_URL · in a job: worker --share-broker"


class BrokerUnknownHost(BrokerError):
    """host, origin (where the URL came from)."""

    code = "broker_unknown_host"
    text = "Cannot find the host '{host}' (from {origin})."
    hint_text = "jobrunner config show"


class BrokerTimeout(BrokerError):
    """address, timeout (as typed, such as '10 s')."""

    code = "broker_timeout"
    text = "No answer from {address} within {timeout}."
    hint_text = "--connect-timeout 30s"


class BrokerLost(BrokerError):
    """address, reason: the connection ended while something was under way."""

    code = "broker_lost"
    text = "The connection to the broker at {address} ended: {reason}."
    hint_text = "jobrunner doctor"


class LoginRefused(BrokerError):
    """host, user."""

    code = "login_refused"
    text = "RabbitMQ at {host} refused user '{user}': wrong password or unknown user."
    hint_text = "jobrunner config show"


class GuestRemote(BrokerError):
    """The user guest away from loopback. Source: RabbitMQ docs "Access Control", loopback_users."""

    code = "guest_remote"
    text = "The user 'guest' may only connect from the broker's own machine."
    hint_text = "rabbitmqctl add_user app"


class VhostMissing(BrokerError):
    """vhost, host."""

    code = "vhost_missing"
    text = "There is no virtual host '{vhost}' on {host}."
    hint_text = "rabbitmqctl add_vhost {vhost} --default-queue-type quorum · '/' is %2F"


class VhostRefused(BrokerError):
    """vhost, user."""

    code = "vhost_refused"
    text = "User '{user}' has no rights in virtual host '{vhost}'."
    hint_text = "rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'"


class PermissionRefused(BrokerError):
    """user, verb (create, read, write), entity, vhost."""

    code = "permission"
    text = "User '{user}' may not {verb} '{entity}' in '{vhost}'."
    hint_text = "an administrator, once: jobrunner queues declare"


class EntityDiffers(BrokerError):
    """kind (queue, exchange), name, difference; argument and found: the one that differs and its value, in the broker's
    words.
    """

    code = "entity_differs"
    text = "The {kind} '{name}' has other settings: {difference}."
    hint_text = "jobrunner queues declare --replace {name}"


class TlsRefused(BrokerError):
    """reason: one sentence without its full stop."""

    code = "tls"
    text = "{reason}."
    hint_text = "[tls] server_name"


class BrokerBlocked(BrokerError):
    """alarm: what the broker gave as its reason."""

    code = "broker_blocked"
    text = "RabbitMQ takes no new jobs ({alarm}). Nothing was queued; queued jobs are safe."
    hint_text = "rabbitmq-diagnostics alarms"


class QueueNotEmpty(BrokerError):
    """name, count."""

    code = "queue_not_empty"
    text = "The queue '{name}' holds {count} messages; it is not replaced."
    hint_text = "jobrunner queues list {name}"


class Unroutable(BrokerError):
    """queue, user."""

    code = "unroutable"
    text = "There is no queue '{queue}', and user '{user}' may not create it. Nothing was queued."
    hint_text = "an administrator, once: jobrunner queues declare {queue}"


class QueueRefused(BrokerError):
    """queue."""

    code = "queue_refused"
    text = "The broker refused the job: queue '{queue}' is full or down. Nothing was queued."
    hint_text = "jobrunner status {queue}"


class LocalBrokerMissing(BrokerError):
    """install: the platform's own command."""

    code = "local_broker_missing"
    text = "No broker can be started here: neither rabbitmq-server nor Docker was found."
    hint_text = "{install} · set JOBRUNNER_URL"


class LocalBrokerFailed(BrokerError):
    """timeout, log_tail."""

    code = "local_broker_failed"
    text = "RabbitMQ did not start within {timeout}. Its log ends: {log_tail}"
    hint_text = "jobrunner broker run"


class LocalBrokerEnded(BrokerError):
    """log_tail: what the node or Docker said at its end."""

    code = "local_broker_ended"
    text = "RabbitMQ ended while it started or stopped. It said: {log_tail}"
    hint_text = "jobrunner broker run"


class LocalPortTaken(BrokerError):
    """port."""

    code = "local_port_taken"
    text = "The private broker cannot use port {port}: another program listens there."
    hint_text = "jobrunner broker start  (takes a free port)"


# --- exit 2: what was typed -----------------------------------------------------------------------------------------


class LocalBrokerRuns(UsageError):
    """which: version and process."""

    code = "local_broker_runs"
    text = "A private broker runs already: {which}."
    hint_text = "jobrunner broker stop"


class UrlNotAmqp(UsageError):
    """url, suggestion."""

    code = "url_not_amqp"
    text = "'{url}' is RabbitMQ's web page, not its AMQP port."
    hint_text = "{suggestion}"


class UrlInvalid(UsageError):
    """reason."""

    code = "url_invalid"
    text = "The broker URL is not valid: {reason}."
    hint_text = "amqp://user:password@host:5672/vhost"


class UrlUnescaped(UrlInvalid):
    """A password that stands as it is in a URL cuts it in two, and must not be shown."""

    code = "url_unescaped"
    text = "The broker URL cannot be read: its password holds a '/', '#', '?', '[' or another special character."
    hint_text = "percent-encode it: / is %2F, # is %23, ? is %3F, [ is %5B"


class MessageTooLarge(UsageError):
    """size, limit, largest (name and size of the largest part)."""

    code = "message_too_large"
    text = "This job has {size}; the limit is {limit}. {largest}"
    hint_text = "pass a path or URL"


class QueueNameTooLong(UsageError):
    """name, size_bytes, limit_bytes."""

    code = "queue_name_too_long"
    text = "The queue name '{name}' has {size_bytes} bytes once encoded; the limit is {limit_bytes}."
    hint_text = "a shorter name of A-Z a-z 0-9 - _"


class NoSuchCommand(UsageError):
    """name, suggestion (with its leading space, or empty)."""

    code = "no_such_command"
    text = "No such command '{name}'.{suggestion}"
    hint_text = "jobrunner --help"


class DashArgument(UsageError):
    """argument, command."""

    code = "dash_argument"
    text = "'{argument}' looks like an option, but '{command}' has none of that name."
    hint_text = "--arg={argument} · x:={argument}"


class NoSuchOption(UsageError):
    """option, suggestion (with its leading space, or empty), command (with the program's name)."""

    code = "no_such_option"
    text = "No such option '{option}'.{suggestion}"
    hint_text = "{command} --help"


class TargetIsPath(UsageError):
    """target, suggestion."""

    code = "target_is_path"
    text = "'{target}' is a file. Functions are named by module: {suggestion}"
    hint_text = "jobrunner enqueue {suggestion}"


class BadTarget(UsageError):
    """target: neither a function's name nor a path."""

    code = "bad_target"
    text = "'{target}' does not name a function. Functions are named by module: tasks:resize"
    hint_text = "a command: jobrunner enqueue -- {target}"


class NoSuchFunction(UsageError):
    """file, function, suggestion (with its leading space, or empty), functions."""

    code = "no_such_function"
    text = "{file} has no function '{function}'.{suggestion}"
    hint_text = "It has: {functions}"


class BadArguments(UsageError):
    """problem (a sentence), signature."""

    code = "bad_arguments"
    text = "{problem} Nothing was queued."
    hint_text = "{signature}"


class NotACall(UsageError):
    """what, reason (a sentence)."""

    code = "not_a_call"
    text = "{what} cannot be sent to a worker: {reason}"
    hint_text = "a function at the top of a module, its name 'tasks:add', or a command as a list"


class NotJson(UsageError):
    """call, argument (its name), reason."""

    code = "not_json"
    text = "{call}: the argument '{argument}' is not JSON: {reason}. Nothing was queued."
    hint_text = "numbers, text, lists, dicts; a path or URL for what is large"


class BadJsonArgument(UsageError):
    """name, value, position, fixed."""

    code = "bad_json_argument"
    text = "{name}:= needs JSON: '{value}' fails at character {position}."
    hint_text = "{name}:='{fixed}' · {name}='{value}'"


class BadDuration(UsageError):
    """value."""

    code = "bad_duration"
    text = "'{value}' is not a duration."
    hint_text = "90s, 5m, 1h30m"


class BadSize(UsageError):
    """value."""

    code = "bad_size"
    text = "'{value}' is not a size."
    hint_text = "500M, 2G"


class BadTime(UsageError):
    """value."""

    code = "bad_time"
    text = "'{value}' is not a time."
    hint_text = "2026-11-22 07:00 · 07:00 · tomorrow 07:00 · mon 07:00 · 2026-11-22T07:00:00Z"


class TimeInThePast(UsageError):
    """when, ago, suggestion."""

    code = "time_in_the_past"
    text = "{when} was {ago} ago."
    hint_text = "--at '{suggestion}'"


class TimeAmbiguous(UsageError):
    """when, zone, first, second (offsets)."""

    code = "time_ambiguous"
    text = "{when} happens twice in {zone}."
    hint_text = "add {first} (first) or {second}"


class OptionsClash(UsageError):
    """problem, such as '--delay and --at both say when.'."""

    code = "options_clash"
    text = "{problem}"


class BadValue(UsageError):
    """problem (a sentence with the value), hint given by the caller."""

    code = "bad_value"
    text = "{problem}"


class BadFilter(UsageError):
    """problem (a sentence with the word), hint given by the caller."""

    code = "bad_filter"
    text = "{problem}"
    hint_text = "jobrunner help filters"


class NotInJob(UsageError):
    """Progress outside of a job."""

    code = "not_in_job"
    text = "This is not inside a running job: there is no progress to report."
    hint_text = "jobrunner enqueue -- sh -c 'jobrunner progress 40%'"


class NoInputs(UsageError):
    """Neither `:::` nor a file, a range or a pipe."""

    code = "no_inputs"
    text = "'map' has no inputs: nothing is piped in and there is no ':::'."
    hint_text = "jobrunner map tasks:square ::: 3 5 8 · ls *.jpg | jobrunner map tasks:resize"


class RunDiffers(UsageError):
    """run, made_with (function or command, with its placeholders)."""

    code = "run_differs"
    text = "The run '{run}' was made with: {made_with}"
    hint_text = "another --run"


class RunExists(UsageError):
    """run: a name that was used before, and nothing says to take it up again."""

    code = "run_exists"
    text = "There is a run '{run}' already."
    hint_text = "--resume · --retry-failed · another --run"


class ConfirmNeeded(UsageError):
    """action, such as 'cancel 340 jobs', and target."""

    code = "confirm_needed"
    text = "This would {action} on {target}, and nobody is here to confirm."
    hint_text = "-n · --yes"


class ConfigInvalid(UsageError):
    """problem: FILE:LINE: what is wrong."""

    code = "config_invalid"
    text = "{problem}"
    hint_text = "jobrunner config path"


class AppImport(UsageError):
    """app, reason, python."""

    code = "app_import"
    text = "Cannot import '{app}': {reason}, with {python}"
    hint_text = "uv run jobrunner worker"

    def __init__(self, **fields: object) -> None:
        """The Python is the wrong one if a module is missing; of another error the traceback helps."""
        is_missing = str(fields["reason"]).startswith("No module named")
        super().__init__(hint=None if is_missing else f"{fields['python']} -c 'import {fields['app']}'", **fields)


class WorkerOpen(UsageError):
    """host."""

    code = "worker_open"
    text = "Anyone who can publish to {host} could run any command here."
    hint_text = "--authkey-file · --insecure"


class KeyFileOpen(UsageError):
    """path, mode: four octal digits."""

    code = "key_file_open"
    text = "The key file {path} can be read by others (mode {mode})."
    hint_text = "chmod 600 {path}"


class KeyInvalid(UsageError):
    """problem: FILE:LINE: what is wrong; never the key."""

    code = "key_invalid"
    text = "{problem}"
    hint_text = "jobrunner key check FILE"


class KeyCannotSign(UsageError):
    """what: jobs, cancels. origin: where the keys came from."""

    code = "key_cannot_sign"
    text = "None of the keys from {origin} may sign {what}."
    hint_text = "jobrunner key show"


class WorkerNameTaken(UsageError):
    """name, pid."""

    code = "worker_name_taken"
    text = "A worker named '{name}' already runs (pid {pid})."
    hint_text = "--name"


class DevRemote(UsageError):
    """host."""

    code = "dev_remote"
    text = "'dev' runs anything it receives; {host} is another machine."
    hint_text = "jobrunner worker"


# --- others ---------------------------------------------------------------------------------------------------------


class NotFound(JobrunnerError):
    """message given whole."""

    code = "not_found"
    exit_code = 4


class AmbiguousId(JobrunnerError):
    """word, count, jobs (the newest of them, with their names and ages)."""

    code = "ambiguous_id"
    exit_code = 4
    text = "'{word}' fits {count} jobs: {jobs}."
    hint_text = "more of its characters"


class FilesExist(JobrunnerError):
    """files: their names."""

    code = "files_exist"
    exit_code = 1
    text = "Nothing was written: there is {files} already."
    hint_text = "jobrunner init DIR"


class ViewUnusable(JobrunnerError):
    """path, reason: the file in which this machine keeps its view of the ledger."""

    code = "view_unusable"
    exit_code = 1
    text = "Cannot keep the view in {path}: {reason}."
    hint_text = "set JOBRUNNER_STATE_DIR to a folder of yours"


class ViewDamaged(JobrunnerError):
    """path: where the damaged file was set aside."""

    code = "view_damaged"
    exit_code = 1
    text = "The view was damaged and is set aside as {path}; the next command builds it anew from the ledger."
    hint_text = "the same command again"


class WaitTimeout(JobrunnerError, TimeoutError):
    """after, job_id (short), prefix (shorter), state if known. Also a TimeoutError, as the standard library raises."""

    code = "wait_timeout"
    exit_code = 124
    text = "Still {state} after {after}: {job_id}. It goes on."
    hint_text = "jobrunner logs -f {prefix}"

    def __init__(self, *, state: str = "not ended", hint: str | None = None, **fields: object) -> None:
        if state != "running" and hint is None:
            hint = f"jobrunner show --why {fields['prefix']}"
        super().__init__(hint=hint, state=state, **fields)


class NotEnded(JobrunnerError):
    """job_id (short), prefix (shorter), state."""

    code = "not_ended"
    exit_code = 124
    text = "{job_id} has not ended: it is {state}."
    hint_text = "jobrunner result {prefix} --wait 10m"


class NotRunning(JobrunnerError):
    """job_id (short), prefix (shorter), state."""

    code = "not_running"
    text = "{job_id} does not run: it is {state}."
    hint_text = "jobrunner show {prefix}"


class WorkersSilent(PartlyDone):
    """answered, expected (4 of 6), timeout, names (of the silent ones, with when they were seen)."""

    code = "workers_silent"
    text = "{answered} of {expected} workers answered in {timeout}. Silent: {names}"
    hint_text = "jobrunner workers list"


class JobFailed(JobrunnerError):
    """job_id (short), prefix (shorter), tries, error; from the Python API also details (an `outcome.Error`)."""

    code = "job_failed"
    exit_code = 1
    text = "{job_id} died after {tries}: {error}"
    hint_text = "jobrunner show {prefix}"

    @property
    def reason(self) -> str:
        """The stable word for why: `error`, `permanent`, `timeout`, `crash`, `exit`, ...; empty if unknown."""
        return str(getattr(self.fields.get("details"), "reason", ""))

    @property
    def class_name(self) -> str | None:
        """The class of the exception that the function raised last, such as `ValueError`."""
        return getattr(self.fields.get("details"), "class_name", None)

    @property
    def traceback(self) -> str | None:
        """The traceback of that exception in the worker's child, as text."""
        return getattr(self.fields.get("details"), "traceback", None)


class JobExpired(JobrunnerError):
    """job_id (short)."""

    code = "job_expired"
    exit_code = 1
    text = "{job_id} expired: no worker started it in time."


class JobCancelled(JobrunnerError):
    """job_id (short)."""

    code = "job_cancelled"
    exit_code = 1
    text = "{job_id} was cancelled."


class ResultCut(PartlyDone):
    """job_id (short)."""

    code = "result_cut"
    text = "{job_id} succeeded, but its result was over 1 MiB and is cut."


class NotAllQueued(PartlyDone):
    """queued, failed (counts), error (the first)."""

    code = "not_all_queued"
    text = "{queued} jobs are queued, {failed} are not: {error}"

    @property
    def failed(self) -> int:
        """How many are not queued."""
        return int(str(self.fields["failed"]))


class InputCutShort(PartlyDone):
    """reason (a sentence), line."""

    code = "input_cut_short"
    text = "{reason} Line {line} and those after it were not queued."
    hint_text = "tail -n +{line} FILE | jobrunner enqueue --from -"


class LettersInUse(PartlyDone):
    """Another command holds the dead letters."""

    code = "letters_in_use"
    text = "Another command or program reads the dead letters."
    hint_text = "the same command again"


class Unconfirmed(PartlyDone):
    """until (within a time, before the connection was lost), job_id (short), full_id."""

    code = "unconfirmed"
    text = "No confirm {until}: {job_id} may be queued or not."
    hint_text = "again with --id {full_id}"


class CancelUnconfirmed(PartlyDone):
    """until, job_id (short)."""

    code = "cancel_unconfirmed"
    text = "No confirm {until}: {job_id} may be cancelled or not."
    hint_text = "the same command again"


class PauseUnconfirmed(PartlyDone):
    """until, queue, state (paused, resumed)."""

    code = "pause_unconfirmed"
    text = "No confirm {until}: '{queue}' may be {state} or not."
    hint_text = "the same command again"


class ChildrenKeepDying(JobrunnerError):
    """failures, window, reason."""

    code = "children_keep_dying"
    exit_code = 1
    text = "Worker processes keep dying: {failures} failed starts in {window}. Last: {reason}"
    hint_text = "jobrunner worker --procs 1 --log-level debug"


class CannotWrite(JobrunnerError):
    """reason (the system's)."""

    code = "cannot_write"
    exit_code = 1
    text = "Not all could be written: {reason}."
    hint_text = "df -h · jobrunner doctor"


class Bug(JobrunnerError):
    """what (class and place), report (path)."""

    code = "bug"
    exit_code = 70
    text = "jobrunner hit a bug ({what}). Jobs in the broker are safe. Report: {report}"


def catalogue(root: type[JobrunnerError] = JobrunnerError) -> list[type[JobrunnerError]]:
    """Every row: the subclasses of `root` in this file with a sentence of their own, in its order."""
    rows = [root] if root.text != JobrunnerError.text and root.__module__ == __name__ else []
    return rows + [row for child in root.__subclasses__() for row in catalogue(child)]


# --- raised by jobs: not errors of ours -----------------------------------------------------------------------------


class Permanent(Exception):  # read aloud: raise Permanent("no such user")
    """Raised by a job: running it again cannot help. The job is dead at once, whatever retries are left."""


class Retry(Exception):  # read aloud: raise Retry(after=30)
    """Raised by a job: run it again after a while of its own choosing. It counts as an attempt.

    after: seconds >= 0 as float; None takes the job's backoff.
    """

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after
