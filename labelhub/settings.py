"""Settings of the site. What differs between sites is an environment variable."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import structlog
from csp.constants import NONE, SELF
from structlog.typing import Processor

from labelhub.environment import database_settings, find_secret_key, read_environment

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = read_environment()
ENV.data_dir = (BASE_DIR / ENV.data_dir).resolve()

DEBUG = ENV.debug
SECRET_KEY = find_secret_key(ENV)
ALLOWED_HOSTS = ENV.allowed_hosts

DATA_DIR = ENV.data_dir
RUNS_DIR = DATA_DIR / "runs"
UPLOADS_DIR = DATA_DIR / "uploads"
ARTIFACT_STORE = ENV.artifact_store or str(DATA_DIR / "artifacts")
MODEL_ROOTS = [Path(p).resolve() for p in ENV.model_roots] or [DATA_DIR / "models"]
DATA_ROOTS = [Path(p).resolve() for p in ENV.data_roots] or [DATA_DIR / "data"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_htmx",
    "django_q",
    "labelhub",
    "training",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "labelhub.logs.RequestLogMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "labelhub.urls"
WSGI_APPLICATION = "labelhub.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "loaders": (
                ["django.template.loaders.filesystem.Loader"]
                if DEBUG
                else [
                    (
                        "django.template.loaders.cached.Loader",
                        ["django.template.loaders.filesystem.Loader"],
                    )
                ]
            ),
        },
    }
]

DATABASES = {"default": database_settings(ENV)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People ---------------------------------------------------------------

AUTH_USER_MODEL = "labelhub.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "labelhub:projects"
LOGOUT_REDIRECT_URL = "login"

# Ten wrong passwords for one name from one address lock that pair for a quarter of
# an hour; a stranger cannot lock somebody else out from another address.
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "429.html"
AXES_HTTP_RESPONSE_CODE = 429
AXES_ENABLE_ACCESS_FAILURE_LOG = False
AXES_VERBOSE = False

# --- The browser ----------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
# With loopback hosts only, cookies work over http; any other host means https.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not ENV.is_loopback_only
SECURE_SSL_REDIRECT = not ENV.is_loopback_only and not DEBUG
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 0 if ENV.is_loopback_only else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not ENV.is_loopback_only
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ALLOWED_HOSTS if host != "*"]
SESSION_COOKIE_AGE = 60 * 60 * 24 * 14

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Files are served from where they lie: there is no build step and no collectstatic.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
WHITENOISE_ALLOW_ALL_ORIGINS = False

# The files of an import are streamed to disk, and moved from there.
UPLOADS_DIR.mkdir(parents=True, exist_ok=True)
FILE_UPLOAD_TEMP_DIR = UPLOADS_DIR
# Responses may be long.
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
USE_I18N = False

# --- The API --------------------------------------------------------------

# Tokens only: a session does nothing there, so no other site can make a browser ask.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["labelhub.api.tokens.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["labelhub.api.tokens.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["labelhub.api.tokens.TokenThrottle"],
    "DEFAULT_THROTTLE_RATES": {"token": "1200/min"},
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "labelhub.api.paging.CursorPages",
    "DEFAULT_SCHEMA_CLASS": "labelhub.api.schema.Schema",
    "EXCEPTION_HANDLER": "labelhub.api.errors.answer_error",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "LabelHub",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "ENUM_NAME_OVERRIDES": {"SourceEnum": "labelhub.models.Judgment.Source"},
}

# --- The queue ------------------------------------------------------------

# django-q2 is a doorbell: every task is a trigger of milliseconds that may be lost,
# doubled or reordered without harm, so a failed one is not repeated (ack_failures).
Q_CLUSTER = {
    "name": "labelhub",
    "orm": "default",
    "workers": 1,
    "queue_limit": 2,
    "timeout": 60,
    "retry": 300,
    "ack_failures": True,
    "max_attempts": 1,
    "recycle": 200,
    "save_limit": 500,
    "catch_up": False,
    "poll": 0.5,
    "log_level": "WARNING",
    "ALT_CLUSTERS": {},
}

# --- Training -------------------------------------------------------------

WORKER_NAME = ENV.worker_name or socket.gethostname()
# The run directory is appended. Tests put a cheap trainer here.
TRAINER_COMMAND = [sys.executable, "-m", "training.core.run"]

# --- Logs -----------------------------------------------------------------

_SHARED_PROCESSORS: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structured": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                (
                    structlog.dev.ConsoleRenderer(colors=False)
                    if DEBUG
                    else structlog.processors.JSONRenderer()
                ),
            ],
            "foreign_pre_chain": _SHARED_PROCESSORS,
        }
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "structured"}
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django.server": {"level": "WARNING", "propagate": True, "handlers": []},
        "axes": {"level": "WARNING"},
        "django-q": {"level": "WARNING", "handlers": ["console"], "propagate": False},
    },
}
structlog.configure(
    processors=[
        *_SHARED_PROCESSORS,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
