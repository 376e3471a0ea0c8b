"""Every address of the site."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from labelhub.api.projects import NotThere
from labelhub.forms import LoginForm

urlpatterns = [
    path(
        "login/",
        LoginView.as_view(
            authentication_form=LoginForm, redirect_authenticated_user=True
        ),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("api/v1/", include("labelhub.api.urls")),
    path("api/v1/", include("training.api.urls")),
    path("api/v1/<path:rest>", NotThere.as_view(), name="api_not_there"),
    path("", include("labelhub.views.urls")),
    path("", include("training.urls")),
]
